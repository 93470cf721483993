"""Behaviour cloning of chunks by least squares: the mean of what the demonstrations do next."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.networks import MLP, ObservationEncoder
from reverie.planning.chunks import Fitted, FittedChunks, Overlap, in_a_row


class Network(eqx.Module):
    """Observation histories `[..., T, ...]` to chunks `[..., horizon, action]`."""

    encoder: ObservationEncoder
    net: MLP
    horizon: int = eqx.field(static=True)

    def __call__(self, observations, key=None) -> jax.Array:
        out = self.net(in_a_row(self.encoder(observations, key=key)))
        return out.reshape(*out.shape[:-1], self.horizon, -1)


@dataclass(frozen=True)
class ChunkBC(Hidden, FittedChunks):
    """Behaviour cloning of chunks: their mean, which of two ways round is between."""

    name: ClassVar = "chunk-bc"
    paper: ClassVar = "Pomerleau 1991"

    hidden: tuple[int, ...] = (512, 512, 512)
    """Widths of the hidden layers."""

    def network(self, key, spec: Spec) -> Network:
        encoder_key, key = jax.random.split(key)
        encoder = self.encoder(encoder_key, spec)
        sizes = self.observation_horizon * encoder.dim, self.horizon * spec.action_dim
        return Network(encoder, MLP(key, *sizes, hidden=self.hidden, activation=jax.nn.relu), self.horizon)

    def loss(self, net: Network, batch, key) -> jax.Array:
        return self.error(batch, jnp.square(net(batch["observations"], key) - batch["actions"]).mean(-1))

    def choose(self, state: Fitted, spec: Spec, observations, overlap: Overlap, key):
        return state.net.params(observations)
