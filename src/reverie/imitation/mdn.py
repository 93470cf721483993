"""A mixture density network over chunks (Bishop 1994): a few Gaussians, each of a whole chunk."""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.networks import MLP, ObservationEncoder
from reverie.planning.chunks import Fitted, FittedChunks, Overlap, in_a_row
from reverie.rl import NormalMixture
from reverie.settings import Acting, Count, NonNegative, Positive

LARGEST_LOG_STD = 2.0


class MixtureHead(eqx.Module):
    """Features `[..., F]` to a mixture of K Gaussians over `[..., rows, action]`.

    Standard deviations are exponentials, at least `smallest`. Of a `bounded` one they are softplus, and the means are
    in [-1, 1], by the hyperbolic tangent: both as in robomimic (Mandlekar et al. 2021).
    """

    net: MLP
    components: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)
    smallest: float = eqx.field(static=True)
    bounded: bool = eqx.field(static=True)

    def __init__(
        self,
        key,
        features: int,
        rows: int,
        action_dim: int,
        *,
        components: int,
        hidden,
        smallest: float,
        bounded: bool = False,
    ):
        out = components * (1 + 2 * rows * action_dim)
        self.net = MLP(key, features, out, hidden=hidden, activation=jax.nn.relu)
        self.components, self.rows, self.smallest, self.bounded = components, rows, smallest, bounded

    def __call__(self, features) -> NormalMixture:
        out = self.net(features)
        logits, rest = out[..., : self.components], out[..., self.components :]
        mean, spread = jnp.split(rest.reshape(*rest.shape[:-1], self.components, self.rows, -1), 2, -1)
        if self.bounded:
            return NormalMixture(logits, jnp.tanh(mean), self.smallest + jax.nn.softplus(spread))
        return NormalMixture(logits, mean, self.smallest + jnp.exp(jnp.minimum(spread, LARGEST_LOG_STD)))


class Network(eqx.Module):
    encoder: ObservationEncoder
    head: MixtureHead

    def __call__(self, observations, key=None) -> NormalMixture:
        return self.head(in_a_row(self.encoder(observations, key=key)))


@dataclass(frozen=True)
class MDN(Hidden, FittedChunks):
    """A mixture density network over chunks."""

    name: ClassVar = "mdn"
    paper: ClassVar = "Bishop 1994"

    hidden: tuple[int, ...] = (512, 512, 512)
    """Widths of the hidden layers."""
    components: Count = 5
    """Gaussians of the mixture."""
    smallest_std: Positive = 0.01
    """Of a component, in units of half the actions' range; without it a likelihood has no bound."""
    noise: Acting[NonNegative] = 0.0
    """In acting, of a component's standard deviation; with 0 its mean acts, as in robomimic."""

    def network(self, key, spec: Spec) -> Network:
        encoder_key, key = jax.random.split(key)
        encoder = self.encoder(encoder_key, spec)
        sizes = self.observation_horizon * encoder.dim, self.horizon, spec.action_dim
        options: Any = {"components": self.components, "hidden": self.hidden, "smallest": self.smallest_std}
        return Network(encoder, MixtureHead(key, *sizes, **options))

    def loss(self, net: Network, batch, key) -> jax.Array:
        """Minus the mean log-likelihood of a chunk's entry."""
        inside = batch["mask"] if self.mask_padding else jnp.ones_like(batch["mask"])
        likelihood = net(batch["observations"], key).log_prob(batch["actions"], inside)
        return -likelihood.sum() / (inside.sum() * batch["actions"].shape[-1])

    def choose(self, state: Fitted, spec: Spec, observations, overlap: Overlap, key):
        return state.net.params(observations).sample(key, self.noise)
