"""TD3's frame (Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods"): an actor that
draws nothing, noise on the target's action, and fewer updates of the actor and of the targets than of the critics."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.learning import Optimised, ema, where_due
from reverie.settings import Count, NonNegative

from .actors import DeterministicActor
from .critics import ActorCritic, Critic


class DelayedState(eqx.Module):
    actor: Optimised
    target: Any
    """The actor's slow copy."""
    critic: Critic
    step: jax.Array


@dataclass(frozen=True)
class DelayedActorCritic(Hidden, ActorCritic):
    """An algorithm adds `actor_loss`."""

    role: ClassVar = "baseline"

    policy_noise: NonNegative = 0.2
    """Standard deviation of the noise on the target's action."""
    noise_clip: NonNegative = 0.5
    """Largest such noise."""
    policy_delay: Count = 2
    """Updates of the critics for one of the actor and of all targets."""

    def init(self, key, spec: Spec) -> DelayedState:
        actor_key, critic_key = jax.random.split(key)
        actor = DeterministicActor(actor_key, spec.observation_dim, spec.action_dim, hidden=self.hidden)
        critic = self.init_critic(critic_key, spec)
        return DelayedState(Optimised.create(actor, self.optimiser), actor, critic, jnp.zeros((), jnp.int32))

    def update(self, state: DelayedState, batch, key):
        critic, metrics = self.learn_q(state.critic, batch, self.next_value(state, batch, key))

        def learn(kept):
            actor, target, _, _ = kept
            actor, error = actor.minimise(lambda net: self.loss_in(state, net, critic, batch), self.optimiser)
            # Of a row of the metrics, a mean over updates, this makes the mean over those in which the actor learns.
            return actor, ema(target, actor.params, 1 - self.tau), critic.target, self.policy_delay * error

        # All targets move when the actor does, as in the papers' code.
        kept = state.actor, state.target, state.critic.target, jnp.zeros(())
        actor, target, slow, error = where_due(self.due(state), learn, kept)
        learned = {"actor": actor, "target": target, "critic": replace(critic, target=slow)}
        return replace(state, step=state.step + 1, **learned), metrics | {"actor_loss": error}

    def due(self, state: DelayedState) -> jax.Array:
        """Whether the update of this state is one of the actor and of all targets, too."""
        return state.step % self.policy_delay == 0

    def next_value(self, state: DelayedState, batch, key) -> jax.Array:
        """The target critics' smallest value of the target's action with noise."""
        next_actions = self.next_actions(state, batch, key)
        return state.critic.target(batch["next_observations"], next_actions).min(0)

    def next_actions(self, state: DelayedState, batch, key) -> jax.Array:
        actions = state.target(batch["next_observations"])
        noise = self.policy_noise * jax.random.normal(key, actions.shape)
        return jnp.clip(actions + jnp.clip(noise, -self.noise_clip, self.noise_clip), -1, 1)

    def loss_in(self, state: DelayedState, net, critic: Critic, batch) -> jax.Array:
        """Of the actor, for methods whose loss depends on more of the state than the critics."""
        return self.actor_loss(net, critic, batch)

    def actor_loss(self, net, critic: Critic, batch) -> jax.Array:
        """Which the actor minimises."""
        raise NotImplementedError

    def choose(self, state, spec, observation, key):
        return state.actor.params(observation)
