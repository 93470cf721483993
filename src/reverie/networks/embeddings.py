"""Embeddings of a time feature: one number per example becomes a vector.

The time feature is whatever the process gives the network: a step's index, log(sigma)/4, or t itself.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from .layers import Activation, Draw, Key, Linear, mish


def sinusoidal(t: Array, dim: int) -> Array:
    """Sines, then cosines, of t at dim/2 frequencies from 1 down to 1/10000: `[...] -> [..., dim]`.

    As in Diffuser's code. `dim` is even and at least 4.
    """
    half = dim // 2
    frequencies = jnp.exp(-math.log(10_000) / (half - 1) * jnp.arange(half))
    return waves(t, frequencies)


def waves(t: Array, frequencies: Array) -> Array:
    angles = jnp.asarray(t, jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class Sinusoidal(eqx.Module):
    """`sinusoidal` as a module without parameters: t `[...] -> [..., dim]`."""

    dim: int = eqx.field(static=True)

    def __call__(self, t: Array) -> Array:
        return sinusoidal(t, self.dim)


class Fourier(eqx.Module):
    """Sines and cosines of 2 pi t at random normal frequencies of standard deviation `scale`: t `[...] -> [..., dim]`.

    Tancik et al. (2020). `learned` frequencies are trained (as in IDQL), others receive no gradient (as in SynthER).
    """

    frequencies: Array
    learned: bool = eqx.field(static=True)

    def __init__(self, key: Key, dim: int, *, scale: float = 1.0, learned: bool = False):
        self.frequencies, self.learned = scale * Draw.of(key).normal((dim // 2,)), learned

    @property
    def dim(self) -> int:
        return 2 * self.frequencies.shape[-1]

    def __call__(self, t: Array) -> Array:
        frequencies = self.frequencies if self.learned else jax.lax.stop_gradient(self.frequencies)
        return waves(t, 2 * math.pi * frequencies)


class TimeMLP(eqx.Module):
    """An embedding, a linear layer, an activation, a linear layer: t `[...] -> [..., dim]`.

    With `raw` the layers also see t itself beside its embedding.
    """

    embed: Sinusoidal | Fourier
    first: Linear
    last: Linear
    activation: Activation = eqx.field(static=True)
    raw: bool = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        embed: Sinusoidal | Fourier,
        hidden: int,
        dim: int,
        *,
        activation: Activation = mish,
        raw: bool = False,
    ):
        draw = Draw.of(key)
        self.embed, self.activation, self.raw = embed, activation, raw
        self.first, self.last = Linear(draw, embed.dim + raw, hidden), Linear(draw, hidden, dim)

    def __call__(self, t: Array) -> Array:
        t = jnp.asarray(t, jnp.float32)
        features = self.embed(t)
        if self.raw:
            features = jnp.concatenate([t[..., None], features], -1)
        return self.last(self.activation(self.first(features)))
