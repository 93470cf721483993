"""One-step RL (Brandfonbrener et al. 2021, "Offline RL Without Off-Policy Evaluation").

Q of the behaviour, never of anything better, and one improvement of the policy upon it. The paper trains behaviour, Q
and policy one after another; here each learns in every update, which ends at the same policy.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec, sarsa
from reverie.rl import ActorCritic, Critic, Normal, NormalActor, least
from reverie.training.state import Optimised


class State(eqx.Module):
    behaviour: Optimised
    actor: Optimised
    critic: Critic


@dataclass(frozen=True)
class OneStepRL(ActorCritic):
    """One-step RL: SARSA on the data, then a single policy improvement."""

    name: ClassVar = "one-step"
    role: ClassVar = "baseline"
    paper: ClassVar = "Brandfonbrener et al. 2021"
    acting_fields: ClassVar = ("candidates",)
    limits: ClassVar = ActorCritic.limits | {"temperature": (1e-6, 1e6), "largest_weight": 0.0, "candidates": 1}

    improvement: Literal["exponential-weights", "easy-bcq", "reverse-kl"] = "exponential-weights"
    """How the policy is improved: regression weighted by exp advantage; the best by Q of the behaviour's actions,
    chosen in acting; or ascent of Q, held near the behaviour."""
    temperature: float = 0.3
    """Of the advantage's weights (1/tau of the paper's), or the weight of the divergence from the behaviour."""
    largest_weight: float = 100.0
    """Bound on exp(advantage / temperature)."""
    candidates: int = 16
    """Actions of the behaviour among which easy-bcq chooses."""

    def prepare(self, data: Dataset):
        spec = self.spec(data)
        return sarsa(data, spec), spec

    def init(self, key, spec: Spec) -> State:
        behaviour_key, actor_key, critic_key = jax.random.split(key, 3)
        sizes = (spec.observation_dim, spec.action_dim)
        nets = (NormalActor(key, *sizes, per_state=True, hidden=self.hidden) for key in (behaviour_key, actor_key))
        behaviour, actor = (Optimised.create(net, self.actor_optimiser) for net in nets)
        return State(behaviour, actor, self.init_critic(critic_key, spec))

    def update(self, state: State, batch, key):
        s, a = batch["observations"], batch["actions"]
        next_value = state.critic.target(batch["next_observations"], batch["next_actions"]).min(0)
        critic, metrics = self.learn_q(state.critic, batch, next_value)
        behaviour, cloning = state.behaviour.minimise(lambda net: -net(s).log_prob(a).mean(), self.actor_optimiser)
        metrics |= {"behaviour_loss": cloning}
        if self.improvement == "easy-bcq":
            return State(behaviour, state.actor, critic), metrics
        improve = {"exponential-weights": self.weighted_regression, "reverse-kl": self.held_ascent}[self.improvement]
        actor, error = state.actor.minimise(
            lambda net: improve(net(s), behaviour.params(s), critic, batch, key), self.actor_optimiser
        )
        return State(behaviour, actor, critic), metrics | {"actor_loss": error}

    def weighted_regression(self, policy: Normal, behaviour: Normal, critic: Critic, batch, key):
        q, s = critic.online.params, batch["observations"]
        advantage = q(s, batch["actions"]).min(0) - q(s, jnp.clip(behaviour.sample(key), -1, 1)).min(0)
        weight = jnp.minimum(jnp.exp(advantage / self.temperature), self.largest_weight)
        return -(jax.lax.stop_gradient(weight) * policy.log_prob(batch["actions"])).mean()

    def held_ascent(self, policy: Normal, behaviour: Normal, critic: Critic, batch, key):
        action = policy.sample(key)
        divergence = policy.log_prob(action) - jax.lax.stop_gradient(behaviour).log_prob(action)
        q = least(critic.online.params(batch["observations"], jnp.clip(action, -1, 1)))
        return (self.temperature * divergence - q).mean()

    def choose(self, state, spec, observation, key):
        if self.improvement != "easy-bcq":
            return state.actor.params(observation).mode
        actions = jnp.clip(state.behaviour.params(observation).sample(key, (self.candidates,)), -1, 1)
        best = state.critic.target(observation, actions).min(0).argmax(0)
        return jnp.take_along_axis(actions, best[None, :, None], 0)[0]
