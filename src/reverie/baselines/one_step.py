"""One-step RL (Brandfonbrener et al. 2021, "Offline RL Without Off-Policy Evaluation").

Q of the behaviour, never of anything better, and one improvement of the policy upon it. The paper trains behaviour, Q
and policy one after another, the policy from the behaviour on and for a twentieth of Q's updates; here each learns in
every update. The paper's Q is one network; here it is the mean of several, each of which learns by itself.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec, sarsa
from reverie.learning import Optimised
from reverie.rl import ActorCritic, Critic, Normal, NormalActor, advantage_weighted_loss, select
from reverie.settings import Acting, Count, NonNegative, Positive


class State(eqx.Module):
    behaviour: Optimised
    actor: Optimised
    critic: Critic


@dataclass(frozen=True)
class OneStepRL(Hidden, ActorCritic):
    """One-step RL: SARSA on the data, then a single policy improvement."""

    name: ClassVar = "one-step"
    role: ClassVar = "baseline"
    paper: ClassVar = "Brandfonbrener et al. 2021"
    view: ClassVar = staticmethod(sarsa)

    improvement: Literal["exponential-weights", "easy-bcq", "reverse-kl"] = "exponential-weights"
    """How the policy is improved: regression weighted by exp advantage; the best by Q of the behaviour's actions,
    chosen in acting; or maximising Q, near the behaviour."""
    temperature: Positive = 0.3
    """Of the advantage's weights (1/tau of the paper's), or the weight of the divergence from the behaviour."""
    baseline_samples: Count = 10
    """Actions of the behaviour whose mean value the advantage is over."""
    largest_weight: NonNegative = 100.0
    """Bound on exp(advantage / temperature)."""
    candidates: Acting[Count] = 16
    """Actions of the behaviour among which easy-bcq chooses."""

    def init(self, key, spec: Spec) -> State:
        behaviour_key, actor_key, critic_key = jax.random.split(key, 3)
        sizes = (spec.observation_dim, spec.action_dim)
        nets = (NormalActor(key, *sizes, per_state=True, hidden=self.hidden) for key in (behaviour_key, actor_key))
        behaviour, actor = (Optimised.create(net, self.optimiser) for net in nets)
        return State(behaviour, actor, self.init_critic(critic_key, spec))

    def update(self, state: State, batch, key):
        s, a = batch["observations"], batch["actions"]
        next_value = state.critic.target(batch["next_observations"], batch["next_actions"])
        critic, metrics = self.learn_q(state.critic, batch, next_value)
        behaviour, bc_loss = state.behaviour.minimise(lambda net: -net(s).log_prob(a).mean(), self.optimiser)
        metrics |= {"bc_loss": bc_loss}
        if self.improvement == "easy-bcq":
            return State(behaviour, state.actor, critic), metrics
        improve = {"exponential-weights": self.weighted_regression, "reverse-kl": self.regularised_q}[self.improvement]
        actor, error = state.actor.minimise(
            lambda net: improve(net(s), behaviour.params(s), critic, batch, key), self.optimiser
        )
        return State(behaviour, actor, critic), metrics | {"actor_loss": error}

    def weighted_regression(self, policy: Normal, behaviour: Normal, critic: Critic, batch, key):
        q, s = critic.online.params, batch["observations"]
        others = jnp.clip(behaviour.sample(key, (self.baseline_samples,)), -1, 1)
        advantage = q(s, batch["actions"]).mean(0) - q(s, others).mean((0, 1))
        return advantage_weighted_loss(policy, batch["actions"], advantage / self.temperature, self.largest_weight)

    def regularised_q(self, policy: Normal, behaviour: Normal, critic: Critic, batch, key):
        action = policy.sample(key)
        divergence = policy.log_prob(action) - jax.lax.stop_gradient(behaviour).log_prob(action)
        q = critic.online.params(batch["observations"], jnp.clip(action, -1, 1)).mean(0)
        return (self.temperature * divergence - q).mean()

    def choose(self, state, spec, observation, key):
        if self.improvement != "easy-bcq":
            return state.actor.params(observation).mode
        actions = jnp.clip(state.behaviour.params(observation).sample(key, (self.candidates,)), -1, 1)
        values = state.critic.target(observation, actions).mean(0)
        return select(jnp.swapaxes(actions, 0, 1), values.T)
