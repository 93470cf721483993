"""Implicit behavioural cloning (Florence et al. 2021): an energy of observations and chunks, whose minimum acts.

The energy sees a chunk's rows from the newest observation's on. Those before it are executed already: what they say of
the next action is nothing that acting could use, as there they would be searched for as well. What is searched is the
range of the data's actions, beyond which none is executed; the authors' code ends at the environment's bounds alike.
"""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.networks import MLP, ObservationEncoder
from reverie.networks.layers import concatenate
from reverie.planning.chunks import Fitted, FittedChunks, Overlap, in_a_row
from reverie.settings import Acting, Count, Natural, NonNegative

SPREAD = 0.33
"""Standard deviation of the first resampling's noise, in units of half the actions' range."""
SHRINK = 0.5
"""Of the noise, from one iteration to the next."""


class Energy(eqx.Module):
    """Observation histories `[..., T, ...]` and chunks `[..., N, rows, action]` to energies `[..., N]`."""

    encoder: ObservationEncoder
    net: MLP

    def read(self, observations, key=None) -> jax.Array:
        return in_a_row(self.encoder(observations, key=key))

    def __call__(self, features, chunks) -> jax.Array:
        flat = chunks.reshape(*chunks.shape[:-2], -1)
        return self.net(concatenate(features[..., None, :], flat))[..., 0]


@dataclass(frozen=True)
class IBC(Hidden, FittedChunks):
    """Implicit behavioural cloning, by contrast with uniform chunks and derivative-free optimisation."""

    name: ClassVar = "ibc"
    paper: ClassVar = "Florence et al. 2021"

    horizon: Count = 2
    """Actions of a chunk. Uniform negatives say ever less the more there are."""
    action_horizon: Acting[Count] = 1
    """Actions that are executed of a chunk before the next one is."""
    hidden: tuple[int, ...] = (512, 512, 512)
    """Widths of the hidden layers."""
    negatives: Count = 64
    """Uniform chunks that each demonstrated one is told from; 256 in the authors' code."""
    margin: NonNegative = 0.1
    """How far beyond the data's range chunks are drawn in training, as a share of half the range."""
    iterations: Acting[Natural] = 3
    """Of resampling by the energy, with ever less noise."""
    candidates: Acting[Count] = 1024
    """Chunks among which the energy chooses; 16,384 in the authors' code."""

    def network(self, key, spec: Spec) -> Energy:
        encoder_key, key = jax.random.split(key)
        encoder = self.encoder(encoder_key, spec)
        size = self.observation_horizon * encoder.dim + (self.horizon - self.current) * spec.action_dim
        return Energy(encoder, MLP(key, size, 1, hidden=self.hidden, activation=jax.nn.relu))

    def uniform(self, key, shape) -> jax.Array:
        return jax.random.uniform(key, shape, minval=-1 - self.margin, maxval=1 + self.margin)

    def loss(self, net: Energy, batch, key) -> jax.Array:
        """InfoNCE: minus the log probability of the demonstrated chunk among the others."""
        crop_key, key = jax.random.split(key)
        actions = batch["actions"][:, self.current :]
        size, *rest = actions.shape
        chunks = jnp.concatenate([actions[:, None], self.uniform(key, (size, self.negatives, *rest))], 1)
        energies = net(net.read(batch["observations"], crop_key), chunks)
        return -jax.nn.log_softmax(-energies)[:, 0].mean()

    def choose(self, state: Fitted, spec: Spec, observations, overlap: Overlap, key):
        """Derivative-free optimisation (algorithm 1), behind the rows that are executed already."""
        executed, ahead = jnp.split(overlap.rows, [self.current], 1)
        net, (n, *rest) = state.net.params, ahead.shape
        features, (first_key, key) = net.read(observations), jax.random.split(key)
        # Within the range that is executed: of a chunk beyond it the energy would not be that of what is done.
        chunks = jax.random.uniform(first_key, (n, self.candidates, *rest), minval=-1, maxval=1)

        def resampled(iteration, chunks):
            which_key, noise_key = jax.random.split(jax.random.fold_in(key, iteration))
            which = jax.random.categorical(which_key, -net(features, chunks)[:, None], shape=(n, self.candidates))
            kept = jnp.take_along_axis(chunks, which[..., None, None], 1)
            noise = SPREAD * SHRINK**iteration * jax.random.normal(noise_key, kept.shape)
            return jnp.clip(kept + noise, -1, 1)

        chunks = jax.lax.fori_loop(0, self.iterations, resampled, chunks)
        best = jnp.argmin(net(features, chunks), 1)
        return jnp.concatenate([executed, jnp.take_along_axis(chunks, best[:, None, None, None], 1)[:, 0]], 1)
