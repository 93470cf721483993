"""Flow Q-learning (Park, Li & Levine 2025).

A flow clones the behaviour; a one-step policy is distilled from it, noise to action in one evaluation, and maximises Q.
Q is never differentiated through the flow.
"""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.learning import Optimised
from reverie.networks import MLP
from reverie.networks.layers import concatenate
from reverie.rl import ActorCritic, Critic, FlowActor, SamplingExplorer, magnitude
from reverie.settings import NonNegative


class State(eqx.Module):
    flow: Optimised
    actor: Optimised
    critic: Critic


@dataclass(frozen=True)
class FQL(FlowActor, ActorCritic, SamplingExplorer):
    """Flow Q-learning: a behaviour cloning flow, and a one-step policy distilled from it that maximises Q."""

    name: ClassVar = "fql"
    role: ClassVar = "policy"
    paper: ClassVar = "Park et al. 2025"

    critic_hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the critics' hidden layers."""
    alpha: NonNegative = 10.0
    """Weight of the distillation loss; the paper chooses 10 to 1000 a task."""
    normalise_q: bool = False
    """Whether Q is measured in units of its mean magnitude; then alpha does not depend on the rewards' scale."""
    pessimistic: bool = False
    """Whether td_target takes the smallest of the critics' values, and not their mean."""

    def init(self, key, spec: Spec) -> State:
        flow_key, actor_key, critic_key = jax.random.split(key, 3)
        size, out = spec.observation_dim + spec.action_dim, spec.action_dim
        flow = self.flow_network(flow_key, spec)
        actor = MLP(actor_key, size, out, hidden=self.hidden, activation=self.activation, init=self.initialiser)
        critic = self.init_critic(critic_key, spec)
        by = self.optimiser
        return State(Optimised.create(flow, by), Optimised.create(actor, by), critic)

    def update(self, state: State, batch, key):
        next_key, flow_key, noise_key = jax.random.split(key, 3)
        next_actions = self.one_step(state.actor.params, batch["next_observations"], next_key, batch["actions"].shape)
        q = state.critic.target(batch["next_observations"], jnp.clip(next_actions, -1, 1))
        critic, metrics = self.learn_q(state.critic, batch, q.min(0) if self.pessimistic else q.mean(0))

        flow, flow_loss = state.flow.minimise(lambda flow: self.flow_loss(flow, batch, flow_key), self.optimiser)
        noise = jax.random.normal(noise_key, batch["actions"].shape)
        flow_actions = self.integrate(state.flow.params, batch["observations"], noise)

        def actor_loss(actor):
            action = actor(concatenate(batch["observations"], noise))
            distillation = jnp.square(action - flow_actions).mean()
            # The critic and the flow of before this update, as in the released code, whose losses share one step.
            q = state.critic.online.params(batch["observations"], jnp.clip(action, -1, 1)).mean(0)
            size = magnitude(q) if self.normalise_q else 1.0
            return self.alpha * distillation - q.mean() / size, {"distillation_loss": distillation, "actor_q": q.mean()}

        (loss, parts), gradient = jax.value_and_grad(actor_loss, has_aux=True)(state.actor.params)
        actor = state.actor.apply(gradient, self.optimiser)
        return State(flow, actor, critic), metrics | parts | {"flow_loss": flow_loss, "actor_loss": loss}

    def one_step(self, actor, observation, key, shape) -> jax.Array:
        """The one-step policy's actions of `shape`, from fresh noise."""
        return actor(concatenate(observation, jax.random.normal(key, shape)))

    def behaviour_network(self, state: State):
        return state.flow.params

    def choose(self, state, spec, observation, key):
        return self.one_step(state.actor.params, observation, key, (*observation.shape[:-1], spec.action_dim))
