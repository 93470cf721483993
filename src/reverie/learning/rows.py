"""A function of all rows of the data, a piece after another, where one call for all would not fit in memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

ROWS = 2048
"""Rows in one piece: what one call of a network takes at once."""


def map_rows(function: Callable[[jax.Array, jax.Array], jax.Array], observations, key) -> jax.Array:
    """`function(observations [B, ...], key) -> [B, ...]` for all rows of the data `[M, ...]`, a piece after another."""
    count = -(-len(observations) // ROWS)
    padded = jnp.pad(observations, ((0, count * ROWS - len(observations)), (0, 0)))
    pieces = (padded.reshape(count, ROWS, -1), jax.random.split(key, count))
    done = jax.lax.map(lambda piece: function(*piece), pieces)
    return done.reshape(-1, *done.shape[2:])[: len(observations)]
