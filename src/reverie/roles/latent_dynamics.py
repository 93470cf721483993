"""Dreamer's way for vectors (Hafner et al. 2021, "Mastering Atari with Discrete World Models"): an actor-critic that
learns from what a recurrent state-space model imagines, a step after another, in its latents.

It is no DreamerV2, nor V3 (Hafner et al. 2023). The stochastic part is Gaussian, as in DreamerV1, not of categories.
Rewards and ends are told by a latent and the action there, not by the latent after it, so that an episode's end needs
no observation. The actor-critic is that of PolyGRAD, so that nothing but the model differs between the two: Dreamer's
actor of continuous actions follows the gradient through the model, and its returns are other averages. Of V3 there are
no symlog, two-hot returns, percentiles of returns nor unimix.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec
from reverie.learning import Optimised
from reverie.models import Latent, LatentModel
from reverie.protocols import Feedback
from reverie.rl import Imagined, ImaginedActorCritic, ImaginedState, NormalActor, drawn_rows
from reverie.settings import Count, Fraction, NonNegative, Positive
from reverie.wishes import Wishes

KEPT = 10_000
"""Observations that stay with the run, for an environment around its model to begin in."""


class Memory(NamedTuple):
    """What acting remembers of the steps before."""

    latent: Latent
    action: jax.Array
    """`[n, action]`, in network units."""


@dataclass(frozen=True)
class LatentDynamics(ImaginedActorCritic):
    """Dreamer's way for vectors: an actor-critic learned in the latents of a recurrent state-space model."""

    name: ClassVar = "latent-dynamics"
    role: ClassVar[str] = "dynamics"
    paper: ClassVar = "Hafner et al. 2021"

    horizon: Count = 15
    """Steps imagined from each state."""
    steps_in_a_row: Count = 50
    """From which the model learns, of one episode."""
    batch_size: Count = 16
    """Such sequences an update."""
    width: Count = 200
    """Of the latent's computed part."""
    latent_size: Count = 30
    """Of its Gaussian part."""
    model_hidden: tuple[int, ...] = (200, 200)
    """Widths of the hidden layers of all of the model's networks."""
    balance: Fraction = 0.8
    """Share of the KL divergence's gradient that moves the prior; the rest moves the posterior."""
    free_nats: NonNegative = 1.0
    """Up to which the KL divergence costs nothing."""
    observation_std: Positive = 0.1
    """Standard deviation that observations and rewards, in network units, are taken to have around what is told."""
    gradient_clip: NonNegative = 100.0
    """Largest norm of the model's gradient; 0 for any."""

    @property
    def sequence(self) -> int:
        return self.steps_in_a_row

    def seen_dim(self, spec: Spec) -> int:
        return self.width + self.latent_size

    def spec(self, data: Dataset) -> Spec:
        spec = super().spec(data)
        rows = np.random.default_rng(0).permutation(len(data))[:KEPT]
        return replace(spec, kept={"observations": jnp.asarray(np.asarray(data.observations)[rows])})

    def init_model(self, key, spec: Spec) -> Optimised:
        sizes: Any = {"width": self.width, "size": self.latent_size, "hidden": self.model_hidden}
        return Optimised.create(LatentModel(key, spec.observation_dim, spec.action_dim, **sizes), self.optimiser)

    def learn_model(self, model: Optimised, batch, key):
        loss_key, start_key = jax.random.split(key)

        def loss(net):
            options = {"balance": self.balance, "free_nats": self.free_nats, "std": self.observation_std}
            return net.loss(batch, loss_key, **options)

        gradient, (metrics, latents) = jax.grad(loss, has_aux=True)(model.params)
        starts = drawn_rows(latents, batch["mask"], start_key, self.imagined)
        return model.apply(gradient, self.optimiser), metrics, starts

    def imagine(self, model: Optimised, actor: NormalActor, starts: Latent, key):
        net = model.params

        def step(latent, key):
            action_key, latent_key, end_key = jax.random.split(key, 3)
            actions = self.policy(actor, latent.features).sample(action_key)
            taken = jnp.clip(actions, -1, 1)
            ends = jax.random.bernoulli(end_key, jax.nn.sigmoid(net.ending(latent, taken))).astype(jnp.float32)
            after = net.next(latent, taken, latent_key)
            return after, (after.features, actions, net.reward(latent, taken), ends)

        _, (seen, actions, rewards, ends) = jax.lax.scan(step, starts, jax.random.split(key, self.horizon))
        seen = jnp.concatenate([starts.features[None], seen])
        return Imagined(seen, actions, rewards, ends), model, {}

    # Acting.

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Memory:
        latent = Latent(jnp.zeros((n, self.width)), jnp.zeros((n, self.latent_size)))
        return Memory(latent, jnp.zeros((n, spec.action_dim)))

    def act(self, state: ImaginedState, spec: Spec, observation, carry: Memory, feedback: Feedback, key):
        latent_key, action_key = jax.random.split(key)
        seen = spec.normalise("observations", observation)
        latent = state.model.params.observed(*carry, seen, latent_key)
        action = jnp.clip(self.choose(state, spec, latent.features, action_key), -1, 1)
        return spec.denormalise("actions", action), Memory(latent, action)

    # As an environment (`roles.learned_env`).

    def world(self, state: ImaginedState, spec: Spec) -> LatentModel:
        return state.model.params

    def begin(self, world: LatentModel, spec: Spec, observations, key) -> Latent:
        n = len(observations)
        seen = spec.normalise("observations", observations)
        return world.observed(world.initial((n,)), jnp.zeros((n, spec.action_dim)), seen, key)

    def follow(self, world: LatentModel, spec: Spec, carry: Latent, actions, key) -> tuple[Latent, dict]:
        latent_key, end_key = jax.random.split(key)
        actions = jnp.clip(spec.normalise("actions", actions), -1, 1)
        after = world.next(carry, actions, latent_key)
        return after, {
            "next_observations": spec.denormalise("observations", world.observation(after)),
            "rewards": spec.denormalise("rewards", world.reward(carry, actions)[..., None])[..., 0],
            "terminals": jax.random.bernoulli(end_key, jax.nn.sigmoid(world.ending(carry, actions))),
            "valid": jnp.ones(len(actions), bool),
        }
