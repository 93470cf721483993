"""A choice among several actions by their values: what every method that samples before it acts ends with."""

from typing import Literal

import jax
import jax.numpy as jnp

Selection = Literal["argmax", "softmax"]
"""The candidate of the largest value, or one drawn in proportion to exp(value)."""


def select(candidates, values, selection: Selection = "argmax", key=None) -> jax.Array:
    """One of the candidates `[..., n, action]` by their values `[..., n]`: `[..., action]`. softmax needs a key."""
    chosen = values.argmax(-1) if selection == "argmax" else jax.random.categorical(key, values)
    return take(candidates, chosen)


def take(candidates, index) -> jax.Array:
    """The candidates `[..., n, action]` of the numbers `index` `[...]`: `[..., action]`."""
    return jnp.take_along_axis(candidates, index[..., None, None], -2)[..., 0, :]


def best(candidates, values, k: int) -> jax.Array:
    """The k candidates `[..., n, action]` of the largest values `[..., n]`, the best first: `[..., k, action]`."""
    _, index = jax.lax.top_k(values, k)
    return jnp.take_along_axis(candidates, index[..., None], -2)
