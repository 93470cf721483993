"""Multi-head attention over tokens `[..., L, width]`: to themselves, or to a context `[..., M, context_dim]`."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .layers import Draw, Key, Linear, by_rows, xavier


def causal_mask(length: int) -> Array:
    """`[length, length]`: token i sees tokens 0 to i."""
    return jnp.tril(jnp.ones((length, length), bool))


def attend(q: Array, k: Array, v: Array, *, mask: Array | None = None, valid: Array | None = None) -> Array:
    """softmax(q k / sqrt(d)) v, head by head: q `[B, L, heads, d]`, k and v `[B, M, heads, d]` -> `[B, L, heads, d]`.

    `mask` `[L, M]` says which keys a query sees, `valid` `[B, M]` which keys exist at all. The numbers in a key that
    does not exist change nothing, not even where they are NaN. A query that sees no key gets 0.
    """
    if valid is None:
        return jax.nn.dot_product_attention(q, k, v, mask=None if mask is None else mask[None, None])
    k, v = (jnp.where(valid[..., None, None], each, 0) for each in (k, v))
    visible = valid[:, None, :] if mask is None else valid[:, None, :] & mask
    out = jax.nn.dot_product_attention(q, k, v, mask=visible[:, None])
    return jnp.where(visible.any(-1)[..., None, None], out, 0)


def batched(valid: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Validity that broadcasts to `[..., M]`, as `[B, M]`."""
    return None if valid is None else jnp.broadcast_to(valid, shape).reshape(-1, shape[-1])


class SelfAttention(eqx.Module):
    """Tokens `[..., L, width]` -> `[..., L, width]`. Raises ReverieError for a width that `heads` does not divide."""

    qkv: Linear
    mix: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, key: Key, width: int, heads: int):
        check_heads(width, heads)
        draw = Draw.of(key)
        self.qkv = Linear(draw, width, 3 * width, init=xavier)
        self.mix = Linear(draw, width, width, init=xavier)
        self.heads = heads

    def __call__(self, x: Array, *, causal: bool = False, valid: Array | None = None) -> Array:
        """`causal`: no token sees a later one. `valid` `[..., L]`, boolean: tokens that may be seen."""
        qkv = by_rows(self.qkv, x).reshape(-1, x.shape[-2], 3 * self.heads, x.shape[-1] // self.heads)
        q, k, v = jnp.split(qkv, 3, -2)
        mask = causal_mask(x.shape[-2]) if causal else None
        return by_rows(self.mix, attend(q, k, v, mask=mask, valid=batched(valid, x.shape[:-1])).reshape(x.shape))


class CrossAttention(eqx.Module):
    """Tokens `[..., L, width]` that look at a context `[..., M, context_dim]` -> `[..., L, width]`.

    Raises ReverieError for a width that `heads` does not divide.
    """

    query: Linear
    key_value: Linear
    mix: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, key: Key, width: int, heads: int, context_dim: int):
        check_heads(width, heads)
        draw = Draw.of(key)
        self.query = Linear(draw, width, width, init=xavier)
        self.key_value = Linear(draw, context_dim, 2 * width, init=xavier)
        self.mix = Linear(draw, width, width, init=xavier)
        self.heads = heads

    def __call__(self, x: Array, context: Array, *, mask: Array | None = None, valid: Array | None = None) -> Array:
        """`mask` `[L, M]`: what a token may see. `valid` `[..., M]`: context that exists. Leading shapes broadcast."""
        lead, head_dim = x.shape[:-2], x.shape[-1] // self.heads
        q = by_rows(self.query, x).reshape(-1, x.shape[-2], self.heads, head_dim)
        projected = by_rows(self.key_value, context)
        projected = jnp.broadcast_to(projected, (*lead, *projected.shape[-2:]))
        k, v = jnp.split(projected.reshape(-1, context.shape[-2], 2 * self.heads, head_dim), 2, -2)
        valid = batched(valid, (*lead, context.shape[-2]))
        return by_rows(self.mix, attend(q, k, v, mask=mask, valid=valid).reshape(x.shape))


def check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ReverieError(
            f"Attention of width {width} cannot be shared by {heads} heads: "
            f"choose a width that is a multiple of {heads}."
        )
