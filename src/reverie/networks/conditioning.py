"""How a condition enters a network: as one vector beside others, or as scales and shifts of features."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from .layers import Key, Linear, concatenate, mish, standardise, zeros

Condition = Any
"""A vector `[..., n]`, or a pytree of such vectors: a dictionary's entries lie side by side in the order of their
sorted names, a tuple's in its own. None, or a tree without any vector, is no condition."""


def flatten_condition(cond: Condition) -> Array | None:
    """A condition as one vector `[..., n]`; leading shapes broadcast. One vector is returned as it is."""
    vectors = jax.tree.leaves(cond)
    if len(vectors) > 1:
        return concatenate(*vectors)
    return vectors[0] if vectors else None


class AdaptiveNorm(eqx.Module):
    """How an embedding steers a block: `count` vectors of `width`, all 0 at the start (Peebles and Xie, 2023)."""

    linear: Linear
    count: int = eqx.field(static=True)

    def __init__(self, key: Key, width: int, count: int):
        self.linear, self.count = Linear(key, width, count * width, init=zeros), count

    def __call__(self, embedding: Array) -> list[Array]:
        """`[..., width]` -> `count` arrays `[..., 1, width]`, which broadcast over tokens."""
        return jnp.split(self.linear(jax.nn.silu(embedding))[..., None, :], self.count, -1)


def modulate(x: Array, scale: Array, shift: Array) -> Array:
    """Layer norm with the scale 1 + `scale` and `shift`: x `[..., L, width]`, both others `[..., 1, width]`."""
    return standardise(x) * (1 + scale) + shift


class FiLM(eqx.Module):
    """x (1 + scale) + shift, channel by channel, both linear in Mish(embedding) (Perez et al., 2018).

    x `[..., channels]`, embedding `[..., embed_dim]` with leading axes that broadcast against x's. Both are 0 at the
    start, so that the layer starts as the identity; Diffusion Policy's code multiplies by `scale` itself and starts
    from PyTorch's default.
    """

    linear: Linear

    def __init__(self, key: Key, embed_dim: int, channels: int):
        self.linear = Linear(key, embed_dim, 2 * channels, init=zeros)

    def __call__(self, x: Array, embedding: Array) -> Array:
        scale, shift = jnp.split(self.linear(mish(embedding)), 2, -1)
        return x * (1 + scale) + shift
