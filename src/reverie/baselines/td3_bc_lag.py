"""TD3+BC with a Lagrange multiplier, a usual baseline of offline safe reinforcement learning (as BCQ-Lag and BEAR-Lag
of Liu et al. 2023, "Datasets and Benchmarks for Offline Safe Reinforcement Learning").

The actor maximises Q - lambda Qc, where the critic Qc is of the costs. Lambda rises while Qc of the actor's actions is
above what the budget allows, and falls below, to no less than 0. The budget is one of the training.

Qc is what is still to come of an episode's costs: beyond a terminal, such as a fall, there are none. The benchmark's
code stops the rewards there alone, and bootstraps the costs beyond it.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec
from reverie.errors import ReverieError
from reverie.planning.budgets import longest_episode
from reverie.rl import Critic, DelayedState, magnitude
from reverie.settings import NonNegative

from .td3_bc import TD3BC


class State(DelayedState):
    """TD3+BC's, the critic of the costs, and the multiplier."""

    cost_critic: Critic
    allowed: jax.Array
    """The Qc of whoever spends the budget evenly, a scalar."""
    multiplier: jax.Array
    """Lambda, a scalar of at least 0."""


@dataclass(frozen=True)
class TD3BCLag(TD3BC):
    """TD3+BC-Lag: TD3+BC within a budget that is set in training."""

    name: ClassVar = "td3-bc-lag"
    paper: ClassVar = "Liu et al. 2023"
    needs: ClassVar = ("rewards", "terminals", "costs")

    budget: NonNegative = 25.0
    """What an episode may cost, undiscounted."""
    multiplier_rate: NonNegative = 1e-3
    """By which lambda moves in an update, for every unit of Qc that the budget is missed by."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discount == 1:
            raise ReverieError("discount = 1 lets a cost without end be infinite; give less, such as 0.99")

    def spec(self, data: Dataset) -> Spec:
        spec = super().spec(data)
        return replace(spec, kept=spec.kept | {"episode_steps": longest_episode(data)})

    def init(self, key, spec: Spec) -> State:
        critic = self.init_critic(jax.random.fold_in(key, 2), spec)
        # A timeout is only a cut: Qc goes on beyond it, at the rate at which the longest episode may spend.
        allowed = self.budget / spec.kept["episode_steps"][0] / (1 - self.discount)
        return State(**vars(super().init(key, spec)), cost_critic=critic, allowed=allowed, multiplier=jnp.zeros(()))

    def update(self, state: State, batch, key):  # type: ignore[override]  # a TD3+BC's state, and more
        costs = batch | {"rewards": batch["costs"]}
        cost_critic, found = self.learn_q(state.cost_critic, costs, self.next_cost(state, batch, key))
        moved, kept = cost_critic.target, state.cost_critic.target
        # With the actor and the other targets.
        cost_critic = replace(cost_critic, target=jax.lax.cond(self.due(state), lambda: moved, lambda: kept))
        learned, metrics = super().update(state, batch, key)
        cost = cost_critic.online.params(batch["observations"], state.actor.params(batch["observations"])).max(0).mean()
        multiplier = jnp.maximum(state.multiplier + self.multiplier_rate * (cost - state.allowed), 0.0)
        metrics |= {"cost_q_loss": found["q_loss"], "cost_to_go": cost, "multiplier": multiplier}
        return replace(learned, cost_critic=cost_critic, multiplier=multiplier), metrics

    def next_cost(self, state: State, batch, key) -> jax.Array:
        """The target critics' largest, which of costs is the careful one, of the target's action with noise."""
        return state.cost_critic.target(batch["next_observations"], self.next_actions(state, batch, key)).max(0)

    def loss_in(self, state: State, net, critic: Critic, batch) -> jax.Array:  # type: ignore[override]
        """With Q - lambda Qc in the place of Q, divided by 1 + lambda, so that imitation does not drown in it."""
        action = net(batch["observations"])
        q = critic.online.params.first(batch["observations"], action)[0]
        cost = state.cost_critic.online.params(batch["observations"], action).max(0)
        weight = self.alpha / magnitude(q)
        gain = (q - state.multiplier * cost) / (1 + state.multiplier)
        return jnp.square(action - batch["actions"]).mean() - weight * gain.mean()
