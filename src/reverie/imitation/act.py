"""Action chunking with transformers, ACT (Zhao et al. 2023): a variational autoencoder of chunks.

The style z says which of several ways a demonstration takes; in acting it is 0. What was seen and z are tokens of an
encoder, whose outputs the decoder of the chunk attends to. Layer norm comes first in each layer of the transformers,
and in the paper last.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import AdamW
from reverie.data import Spec
from reverie.networks import Linear, ObservationEncoder, Transformer
from reverie.networks.embeddings import sinusoidal
from reverie.planning.chunks import Fitted, FittedChunks, Overlap
from reverie.rl import Normal
from reverie.settings import Count, Fraction, LearningRate, Natural, NonNegative


class Style(eqx.Module):
    """The encoder: observations' tokens `[..., T, F]` and a chunk `[..., H, action]` to z's Gaussian."""

    first: jax.Array
    observation: Linear
    action: Linear
    transformer: Transformer
    out: Linear

    def __call__(self, seen, actions, inside, key=None) -> Normal:
        lead, width = actions.shape[:-2], self.first.shape[-1]
        first = jnp.broadcast_to(self.first, (*lead, 1, width))
        tokens = jnp.concatenate([first, self.observation(seen), self.action(actions)], -2)
        known = jnp.ones((*lead, 1 + seen.shape[-2]), bool)
        valid = jnp.concatenate([known, inside > 0], -1)
        positioned = tokens + sinusoidal(jnp.arange(tokens.shape[-2]), width)
        mean, log_variance = jnp.split(self.out(self.transformer(positioned, valid=valid, key=key)[..., 0, :]), 2, -1)
        return Normal(mean, jnp.exp(log_variance / 2))


class Network(eqx.Module):
    encoder: ObservationEncoder
    style: Style
    observation: Linear
    z: Linear
    queries: jax.Array
    """A learned token for each of a chunk's rows, `[H, width]`."""
    context: Transformer
    decoder: Transformer
    out: Linear

    def decode(self, seen, z, key=None) -> jax.Array:
        """Chunks `[..., H, action]` from observations' tokens `[..., T, F]` and a style `[..., latent]`."""
        context_key, key = (None, None) if key is None else jax.random.split(key)
        tokens = jnp.concatenate([self.observation(seen), self.z(z)[..., None, :]], -2)
        tokens = tokens + sinusoidal(jnp.arange(tokens.shape[-2]), tokens.shape[-1])
        queries = jnp.broadcast_to(self.queries, (*seen.shape[:-2], *self.queries.shape))
        return self.out(self.decoder(queries, self.context(tokens, key=context_key), key=key))


@dataclass(frozen=True)
class ACT(AdamW, FittedChunks):
    """ACT: a transformer's chunks, learned as a variational autoencoder's."""

    name: ClassVar = "act"
    paper: ClassVar = "Zhao et al. 2023"

    observation_horizon: Count = 1
    """Observations that are seen: the current one and those before."""
    mask_padding: bool = True
    """Whether actions beyond an episode's end are left out of the loss."""
    width: Count = 256
    """Of the transformers."""
    heads: Count = 8
    """Of their attention."""
    depth: Count = 4
    """Layers of the transformer that reads the style, and of the decoder."""
    encoder_depth: Count = 4
    """Layers of the encoder of what was seen and the style."""
    latent: Count = 32
    """Numbers of the style."""
    kl_weight: NonNegative = 10.0
    """Of the style's Kullback-Leibler divergence from a standard normal, summed over its numbers, beside the mean
    absolute error of actions in [-1, 1]; the released code's 10 weighs it beside that of standardised actions."""
    dropout: Fraction = 0.1
    """Of what the layers add, in training."""
    learning_rate: LearningRate = 1e-4
    """Adam's step size."""
    warmup_updates: Natural = 0
    """Updates over which the learning rate rises from 0."""

    def network(self, key, spec: Spec) -> Network:
        keys = iter(jax.random.split(key, 12))
        encoder, action = self.encoder(next(keys), spec), spec.action_dim
        shared: Any = {"heads": self.heads, "rate": self.dropout}
        sizes = shared | {"depth": self.depth}
        style = Style(
            0.02 * jax.random.normal(next(keys), (self.width,)),
            Linear(next(keys), encoder.dim, self.width),
            Linear(next(keys), action, self.width),
            Transformer(next(keys), self.width, **sizes),
            Linear(next(keys), self.width, 2 * self.latent),
        )
        return Network(
            *(encoder, style, Linear(next(keys), encoder.dim, self.width), Linear(next(keys), self.latent, self.width)),
            0.02 * jax.random.normal(next(keys), (self.horizon, self.width)),
            Transformer(next(keys), self.width, depth=self.encoder_depth, **shared),
            Transformer(next(keys), self.width, context_dim=self.width, **sizes),
            Linear(next(keys), self.width, action),
        )

    def loss(self, net: Network, batch, key) -> jax.Array:
        """The absolute error of the decoded chunk, and the style's divergence."""
        crop_key, style_key, decoder_key, key = jax.random.split(key, 4)
        inside = batch["mask"] if self.mask_padding else jnp.ones_like(batch["mask"])
        seen = net.encoder(batch["observations"], key=crop_key)
        style = net.style(seen, batch["actions"], inside, style_key)
        error = jnp.abs(net.decode(seen, style.sample(key), decoder_key) - batch["actions"]).mean(-1)
        normal = Normal(jnp.zeros(self.latent), jnp.ones(self.latent))
        return self.error(batch, error) + self.kl_weight * style.kl_divergence(normal).mean()

    def choose(self, state: Fitted, spec: Spec, observations, overlap: Overlap, key):
        net = state.net.params
        seen = net.encoder(observations)
        return net.decode(seen, jnp.zeros((len(seen), self.latent)))
