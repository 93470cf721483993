"""SfBC (Chen et al. 2023, "Offline Reinforcement Learning via High-Fidelity Generative Behavior Modeling").

A diffusion model of the behaviour; a critic that regresses planned returns, where a plan leaves an episode of the data
for the value of the behaviour's better actions wherever that is higher; and a choice among samples when acting.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec, rewards_to_go, transitions
from reverie.errors import ReverieError
from reverie.learning import Optimised, Stage, map_rows, optimiser
from reverie.rl import BehaviourModel, QNetwork, WithCritics, best, tilted_mean
from reverie.settings import Acting, Count, LearningRate, Natural, NonNegative


class State(eqx.Module):
    behaviour: Optimised
    critic: Optimised
    previous: QNetwork
    """The critic of the iteration before, which plans."""


@dataclass(frozen=True)
class SfBC(BehaviourModel, WithCritics):
    """SfBC: the behaviour, sampled often; the samples of the largest planned return by a critic."""

    name: ClassVar = "sfbc"
    paper: ClassVar = "Chen et al. 2023"
    activation: ClassVar[Any] = staticmethod(jax.nn.silu)

    batch_size: Count = 4096
    """Transitions an update."""
    learning_rate: LearningRate = 1e-4
    """Adam's step size for the behaviour model."""
    critic_learning_rate: LearningRate = 1e-3
    """Adam's step size for the critic."""
    critics: Count = 1
    """Q networks."""
    critic_updates: Count = 24_400
    """Updates of the critic before a planning; 100 passes through a million rows, as in the released code."""
    iterations: Natural = 1
    """Plannings, one less than the paper's K: after each the critic starts anew, and before the first it regresses the
    episodes' own returns."""
    alpha: NonNegative = 20.0
    """Inverse temperature of the planner's choice among the support, Q in standard units."""
    candidates: Acting[Count] = 32
    """Actions drawn to act."""
    averaged_actions: Acting[Count] = 1
    """How many of the best are averaged; the paper's runs in locomotion average 4."""

    def __post_init__(self):
        super().__post_init__()
        if self.averaged_actions > self.candidates:
            raise ReverieError(f"averaged_actions = {self.averaged_actions} exceeds candidates = {self.candidates}")

    @property
    def critic_optimiser(self):
        return optimiser(self.critic_learning_rate, clip=self.gradient_clip or None)

    @property
    def stages(self) -> tuple[Stage, ...]:
        lengths = (*[self.critic_updates] * self.iterations, None)
        targets = (self.own_returns, *[self.planned_returns] * self.iterations)
        pairs = zip(lengths, targets, strict=True)
        critics = (Stage(self.learn_critic, length, self.renew, target) for length, target in pairs)
        return Stage(self.learn_behaviour, self.behaviour_updates), *critics

    def prepare(self, data: Dataset, spec: Spec | None = None):
        """All steps in order, with where episodes end and the episodes' own discounted returns, in standard units.

        With R = m + s R' the recursion R = r + discount R+ is R' = r' + discount R'+, where s r' is r less what m needs
        on the way: (1 - discount) m, or all of m where nothing follows."""
        data = data.with_next_observations()
        spec = spec or self.spec(data)
        rewards = np.asarray(spec.normalise("rewards", data.require_rewards()[:, None]))[:, 0]
        # To the terminal, as planned returns: data with `ends` of their own go on after it.
        own = rewards_to_go(replace(data, rewards=rewards, ends=None), self.discount)
        mean, std = own.mean(), own.std() or 1.0
        ends = np.zeros(len(data), np.float32)
        ends[data.episodes[:, 1] - 1] = 1
        rows = {
            "rewards": (rewards - mean * (1 - self.discount * ~data.terminals)) / std,
            "returns": (own - mean) / std,
            "ends": ends,
        }
        return transitions(data, spec).joined({k: jnp.asarray(v, jnp.float32) for k, v in rows.items()}), spec

    def init(self, key, spec: Spec) -> State:
        behaviour_key, critic_key = jax.random.split(key)
        critic = Optimised.create(self.q_network(critic_key, spec), self.critic_optimiser)
        return State(Optimised.create(self.network(behaviour_key, spec), self.optimiser), critic, critic.params)

    def renew(self, state: State, key) -> State:
        """The critic that was plans from now on, and another is begun."""
        size = state.critic.params.nets.layers[0].weight.shape[-2]
        critic = Optimised.create(self.q_network_of(key, size), self.critic_optimiser)
        return replace(state, critic=critic, previous=state.critic.params)

    def own_returns(self, state: State, view, key) -> dict[str, jax.Array]:
        return {"targets": view.rows["returns"]}

    def planned_returns(self, state: State, view, key) -> dict[str, jax.Array]:
        """R = r + discount max(R+, V+): along the episode, or off it (eq. 10-11). At a cut only V+ is known."""
        rows = view.rows
        size = rows["actions"].shape[-1]

        def value(observations, key):
            support = self.supports(state.behaviour.params, observations, key, size)
            return tilted_mean(state.previous(observations[:, None], support).min(0), self.alpha)

        def step(later, row):
            next_value = jnp.where(row["ends"] > 0, row["value"], jnp.maximum(later, row["value"]))
            planned = row["rewards"] + self.discount * (1 - row["terminals"]) * next_value
            return planned, planned

        known = {name: rows[name] for name in ("rewards", "terminals", "ends")}
        known["value"] = map_rows(value, rows["next_observations"], key)
        return {"targets": jax.lax.scan(step, jnp.zeros(()), known, reverse=True)[1]}

    def learn_critic(self, state: State, batch, key):
        def loss(q):
            return jnp.square(q(batch["observations"], batch["actions"]) - batch["targets"]).mean(-1).sum()

        critic, error = state.critic.minimise(loss, self.critic_optimiser)
        return replace(state, critic=critic), {"q_loss": error, "target_mean": batch["targets"].mean()}

    def choose(self, state, spec, observation, key):
        size = spec.action_dim
        actions = jnp.clip(
            self.sample_candidates(state.behaviour.params, observation, key, self.candidates, size), -1, 1
        )
        value = state.critic.params(observation[:, None], actions).min(0)
        return best(actions, value, self.averaged_actions).mean(1)
