"""Vector quantisation: a vector is replaced by the nearest of a few learned codes (van den Oord et al., 2017)."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from .layers import Draw, Key


class CodebookLosses(NamedTuple):
    """Mean squared distances over the last axis, `[...]` each: the two terms of VQ-VAE's equation 3."""

    codebook: Array
    """Draws the codes to what they stand for. No gradient reaches the encoder."""
    commitment: Array
    """Draws what is encoded to its code. No gradient reaches the codes."""

    def total(self, commitment: float = 0.25) -> Array:
        """Their weighted sum, `[...]`; VQ-VAE's weight is 0.25."""
        return self.codebook + commitment * self.commitment


class Codebook(eqx.Module):
    """`count` codes of `dim` numbers: x `[..., dim]` -> (the nearest codes, their numbers, the losses).

    The gradient passes the quantised vectors straight to x, as if nothing had happened. Codes begin standard normal
    times `scale`: let x be of about that size, by a `LayerNorm` for instance, or few codes are ever the nearest.
    """

    codes: Array

    def __init__(self, key: Key, count: int, dim: int, *, scale: float = 1.0):
        self.codes = scale * Draw.of(key).normal((count, dim))

    def __call__(self, x: Array) -> tuple[Array, Array, CodebookLosses]:
        """Quantised `[..., dim]`, indices int32 `[...]`, losses `[...]`."""
        indices = self.nearest(x)
        codes = self.lookup(indices)
        fixed = jax.lax.stop_gradient
        losses = CodebookLosses(jnp.square(codes - fixed(x)).mean(-1), jnp.square(x - fixed(codes)).mean(-1))
        return x + fixed(codes - x), indices, losses

    def nearest(self, x: Array) -> Array:
        """The number of the code nearest to each vector, the first of several that are: `[..., dim] -> [...]`."""
        squares = jnp.square(self.codes).sum(-1)
        return jnp.argmin(squares - 2 * x @ self.codes.T, -1).astype(jnp.int32)

    def lookup(self, indices: Array) -> Array:
        """The codes of these numbers: `[...] -> [..., dim]`."""
        return self.codes[indices]

    def perplexity(self, indices: Array) -> Array:
        """How many codes are in use, weighed by how often: exp(entropy), from 1 to `count`; a scalar."""
        share = jnp.bincount(indices.reshape(-1), length=len(self.codes)) / indices.size
        return jnp.exp(-jax.scipy.special.xlogy(share, share).sum())
