"""Embeddings of a time feature: a scalar per example becomes a vector.

The time feature is whatever the process gives the network: a step's index, log(sigma)/4, or t itself.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from .layers import Linear, mish


def sinusoidal(t: Array, dim: int) -> Array:
    """Sines, then cosines, of t at dim/2 frequencies from 1 down to 1/10000: `[...] -> [..., dim]`.

    As in Diffuser's code. `dim` is even and at least 4.
    """
    half = dim // 2
    frequencies = jnp.exp(-math.log(10_000) / (half - 1) * jnp.arange(half))
    angles = jnp.asarray(t, jnp.float32)[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class Sinusoidal(eqx.Module):
    """`sinusoidal` as a module, for where an embedding is chosen. No parameters."""

    dim: int = eqx.field(static=True)

    def __call__(self, t: Array) -> Array:
        return sinusoidal(t, self.dim)


class TimeMLP(eqx.Module):
    """Sinusoidal embedding, Linear(4 dim), Mish, Linear(dim), as in Diffuser: t `[...] -> [..., dim]`."""

    embed: Sinusoidal
    layers: tuple[Linear, Linear]

    def __init__(self, key: Array, dim: int, *, hidden: int | None = None):
        hidden = 4 * dim if hidden is None else hidden
        keys = jax.random.split(key)
        self.embed = Sinusoidal(dim)
        self.layers = (Linear(keys[0], dim, hidden), Linear(keys[1], hidden, dim))

    def __call__(self, t: Array) -> Array:
        first, last = self.layers
        return last(mish(first(self.embed(t))))
