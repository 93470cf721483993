"""A transformer over a window, conditioned by adaptive layer norm."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .embeddings import Sinusoidal, TimeMLP, sinusoidal
from .layers import Draw, Key, Linear, standardise, xavier, zeros


class AdaptiveNorm(eqx.Module):
    """How an embedding steers a block: `count` vectors of `width`, all 0 at the start (Peebles and Xie, 2023)."""

    linear: Linear
    count: int = eqx.field(static=True)

    def __init__(self, key: Key, width: int, count: int):
        self.linear, self.count = Linear(key, width, count * width, init=zeros), count

    def __call__(self, embedding: Array) -> list[Array]:
        """`[..., width]` -> `count` arrays `[..., 1, width]`."""
        return jnp.split(self.linear(jax.nn.silu(embedding))[..., None, :], self.count, -1)


def modulate(x: Array, scale: Array, shift: Array) -> Array:
    return standardise(x) * (1 + scale) + shift


class Block(eqx.Module):
    """Self-attention and an MLP, each shifted, scaled and gated by the embedding; the identity at the start."""

    steer: AdaptiveNorm
    qkv: Linear
    mix: Linear
    wide: Linear
    back: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, key: Key, width: int, heads: int):
        draw = Draw.of(key)
        self.steer = AdaptiveNorm(draw, width, 6)
        self.qkv = Linear(draw, width, 3 * width, init=xavier)
        self.mix = Linear(draw, width, width, init=xavier)
        self.wide = Linear(draw, width, 4 * width, init=xavier)
        self.back = Linear(draw, 4 * width, width, init=xavier)
        self.heads = heads

    def attend(self, x: Array) -> Array:
        qkv = self.qkv(x).reshape(-1, x.shape[-2], 3 * self.heads, x.shape[-1] // self.heads)
        q, k, v = jnp.split(qkv, 3, -2)
        return self.mix(jax.nn.dot_product_attention(q, k, v).reshape(x.shape))

    def __call__(self, x: Array, embedding: Array) -> Array:
        scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = self.steer(embedding)
        x = x + gate * self.attend(modulate(x, scale, shift))
        return x + mlp_gate * self.back(jax.nn.gelu(self.wide(modulate(x, mlp_scale, mlp_shift))))


class WindowTransformer(eqx.Module):
    """DiT over time (Peebles and Xie, 2023; over steps in place of patches).

    x `[..., H, in_dim]`, t a scalar or x's leading shape, cond `[..., cond_dim]` (None is the zero vector) ->
    `[..., H, in_dim]`, 0 at the start. Positions are sinusoidal and H is free; with a `horizon` they are learned and
    H is at most that. Raises ReverieError for a longer window and for a width that `heads` does not divide.
    """

    time: TimeMLP
    cond: Linear | None
    project: Linear
    positions: Array | None
    blocks: tuple[Block, ...]
    steer: AdaptiveNorm
    out: Linear

    def __init__(
        self,
        key: Key,
        in_dim: int,
        *,
        width: int = 256,
        heads: int = 4,
        depth: int = 4,
        cond_dim: int = 0,
        horizon: int | None = None,
    ):
        if width % (2 * heads):
            raise ReverieError(
                f"A transformer of width {width} cannot be shared by {heads} heads: "
                f"choose a width that is a multiple of {2 * heads}."
            )
        draw = Draw.of(key)
        self.time = TimeMLP(draw, Sinusoidal(width), width, width)
        self.cond = Linear(draw, cond_dim, width, bias=False) if cond_dim else None
        self.project = Linear(draw, in_dim, width, init=xavier)
        self.positions = None if horizon is None else 0.02 * draw.normal((horizon, width))
        self.blocks = tuple(Block(draw, width, heads) for _ in range(depth))
        self.steer = AdaptiveNorm(draw, width, 2)
        self.out = Linear(draw, width, in_dim, init=zeros)

    def __call__(self, x: Array, t: Array, cond: Array | None = None) -> Array:
        h = self.project(x) + self.position(x.shape[-2])
        embedding = self.time(t)
        if self.cond is not None and cond is not None:
            embedding = embedding + self.cond(cond)
        for block in self.blocks:
            h = block(h, embedding)
        return self.out(modulate(h, *self.steer(embedding)))

    def position(self, length: int) -> Array:
        """`[length, width]`"""
        if self.positions is None:
            return sinusoidal(jnp.arange(length), self.project.weight.shape[-1])
        if length > len(self.positions):
            raise ReverieError(
                f"This transformer learned positions for {len(self.positions)} steps and was given {length}."
            )
        return self.positions[:length]
