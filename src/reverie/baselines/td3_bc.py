"""TD3+BC (Fujimoto & Gu 2021, "A Minimalist Approach to Offline Reinforcement Learning").

TD3 with a behaviour cloning loss: -lambda Q(s, pi(s)) + (pi(s) - a)^2 with lambda = alpha / mean |Q|.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.learning import Optimised, ema
from reverie.rl import ActorCritic, Critic, DeterministicActor
from reverie.settings import Count, NonNegative


class State(eqx.Module):
    actor: Optimised
    target: Any
    critic: Critic
    step: jax.Array


@dataclass(frozen=True)
class TD3BC(Hidden, ActorCritic):
    """TD3+BC."""

    name: ClassVar = "td3-bc"
    role: ClassVar = "baseline"
    paper: ClassVar = "Fujimoto & Gu 2021"

    standardise: bool = True
    """Whether the networks see observations of mean 0 and standard deviation 1."""
    alpha: NonNegative = 2.5
    """Weight of Q, in units of its mean magnitude, against the behaviour cloning loss; 0 is behaviour cloning."""
    policy_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target's action."""
    noise_clip: NonNegative = 0.5
    """Largest such noise."""
    policy_delay: Count = 2
    """Updates of the critics for one of the actor."""

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        actor = DeterministicActor(actor_key, spec.observation_dim, spec.action_dim, hidden=self.hidden)
        critic = self.init_critic(critic_key, spec)
        return State(Optimised.create(actor, self.optimiser), actor, critic, jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key):
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, key))

        def learn(actor, target):
            actor, error = actor.minimise(lambda net: self.loss_in(state, net, critic, batch), self.optimiser)
            return actor, ema(target, actor.params, 1 - self.tau), error

        def keep(actor, target):
            return actor, target, self.loss_in(state, actor.params, critic, batch)

        due = state.step % self.policy_delay == 0
        actor, target, error = jax.lax.cond(due, learn, keep, state.actor, state.target)
        learned = {"actor": actor, "target": target, "critic": critic}
        return replace(state, step=state.step + 1, **learned), metrics | {"actor_loss": error}

    def next_value(self, state: State, batch, key) -> jax.Array:
        """The target critics' smallest value of the target's action with noise."""
        next_actions = self.next_actions(state, batch, key)
        return state.critic.target(batch["next_observations"], next_actions).min(0)

    def next_actions(self, state: State, batch, key) -> jax.Array:
        actions = state.target(batch["next_observations"])
        noise = self.policy_noise * jax.random.normal(key, actions.shape)
        return jnp.clip(actions + jnp.clip(noise, -self.noise_clip, self.noise_clip), -1, 1)

    def loss_in(self, state: State, net, critic: Critic, batch) -> jax.Array:
        """Of the actor, for methods whose loss depends on more of the state than the critics."""
        return self.actor_loss(net, critic, batch)

    def actor_loss(self, net, critic: Critic, batch) -> jax.Array:
        action = net(batch["observations"])
        q = critic.online.params(batch["observations"], action)[0]
        weight = self.alpha / jax.lax.stop_gradient(jnp.abs(q).mean())
        return jnp.square(action - batch["actions"]).mean() - weight * q.mean()

    def choose(self, state, spec, observation, key):
        return state.actor.params(observation)
