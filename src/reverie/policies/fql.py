"""Flow Q-learning (Park, Li & Levine 2025).

A flow imitates the data; a second network learns to jump from the flow's noise to its end in one step, and to climb Q
on the way. Q is never differentiated through the flow, and acting takes one call.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.diffusion import rectified_flow, sample
from reverie.networks import MLP
from reverie.networks.layers import concatenate
from reverie.rl import ActorCritic, Critic
from reverie.training.state import Optimised


class Flow(eqx.Module):
    """The velocity of x at time t, given the observation; all three side by side, the time as it is."""

    net: MLP

    def __call__(self, x, t, observation):
        return self.net(concatenate(observation, x, jnp.asarray(t)[..., None]))


class State(eqx.Module):
    flow: Optimised
    actor: Optimised
    critic: Critic


@dataclass(frozen=True)
class FQL(ActorCritic):
    """Flow Q-learning: a flow that imitates, and a one-step policy that stays near it and climbs Q."""

    name: ClassVar = "fql"
    role: ClassVar = "policy"
    paper: ClassVar = "Park et al. 2025"
    activation: ClassVar[Any] = staticmethod(jax.nn.gelu)
    critic_layer_norm: ClassVar = True
    limits: ClassVar = ActorCritic.limits | {"alpha": 0.0, "flow_steps": 1}

    hidden: tuple[int, ...] = (512, 512, 512, 512)
    """Widths of the networks' hidden layers."""
    alpha: float = 10.0
    """Weight of staying near the flow; the paper chooses 10 to 1000 a task."""
    flow_steps: int = 10
    """Euler steps of the flow."""
    normalise_q: bool = False
    """Whether Q is measured in units of its mean magnitude; then alpha does not depend on the rewards' scale."""
    pessimistic: bool = False
    """Whether targets take the least of the critics, and not their mean."""

    @property
    def process(self):
        # Training times cover all of [0, 1]; the sampler's t_min makes its last step as long as the others.
        options: Any = {"t_min": 1 / self.flow_steps, "feature": lambda t: t, "draw": jax.random.uniform}
        return rectified_flow(**options)

    def init(self, key, spec: Spec) -> State:
        flow_key, actor_key, critic_key = jax.random.split(key, 3)
        options: Any = {"hidden": self.hidden, "activation": self.activation}
        size = spec.observation_dim + spec.action_dim
        flow = Flow(MLP(flow_key, size + 1, spec.action_dim, **options))
        actor = MLP(actor_key, size, spec.action_dim, **options)
        critic = self.init_critic(critic_key, spec)
        by = self.actor_optimiser
        return State(Optimised.create(flow, by), Optimised.create(actor, by), critic)

    def update(self, state: State, batch, key):
        next_key, flow_key, noise_key = jax.random.split(key, 3)
        following = self.jump(state.actor.params, batch["next_observations"], next_key, batch["actions"].shape)
        q = state.critic.target(batch["next_observations"], jnp.clip(following, -1, 1))
        critic, metrics = self.learn_q(state.critic, batch, q.min(0) if self.pessimistic else q.mean(0))

        def imitate(flow):
            return self.process.loss(flow, batch["actions"], flow_key, batch["observations"]).mean()

        flow, flow_loss = state.flow.minimise(imitate, self.actor_optimiser)
        noise = jax.random.normal(noise_key, batch["actions"].shape)
        end = self.follow(state.flow.params, batch["observations"], noise)

        def improve(actor):
            action = actor(concatenate(batch["observations"], noise))
            distance = jnp.square(action - end).mean()
            q = critic.online.params(batch["observations"], jnp.clip(action, -1, 1)).mean(0)
            size = jax.lax.stop_gradient(jnp.abs(q).mean()) if self.normalise_q else 1.0
            return self.alpha * distance - q.mean() / size

        actor, actor_loss = state.actor.minimise(improve, self.actor_optimiser)
        return State(flow, actor, critic), metrics | {"flow_loss": flow_loss, "actor_loss": actor_loss}

    def follow(self, flow, observation, noise) -> jax.Array:
        """Where the flow takes the noise, within the bounds: `[..., action]`."""
        options: Any = {"calls": self.flow_steps, "solver": "euler", "noise": noise}
        end = sample(self.process, self.process.denoiser(flow, observation), jax.random.key(0), noise.shape, **options)
        return jnp.clip(end, -1, 1)

    def jump(self, actor, observation, key, shape) -> jax.Array:
        """The one-step policy's actions of `shape`, from fresh noise."""
        return actor(concatenate(observation, jax.random.normal(key, shape)))

    def choose(self, state, spec, observation, key):
        return self.jump(state.actor.params, observation, key, (*observation.shape[:-1], spec.action_dim))
