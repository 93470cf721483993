"""A U-Net over images, for diffusion of frames.

Inside, an image lies with its rows and columns first, `[H, W, B, C]`: `convolution` says why.
"""

import itertools

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .convolution import GroupNorm, ImageConv
from .embeddings import Sinusoidal, TimeMLP
from .layers import Draw, Key, Linear, mish


class ImageResidual(eqx.Module):
    """Two convolutions, each with group norm and Mish, the embedding between, and a skip:
    `[H, W, B, n_in] -> [H, W, B, n_out]`."""

    first: ImageConv
    first_norm: GroupNorm
    embed: Linear
    second: ImageConv
    second_norm: GroupNorm
    skip: Linear | None

    def __init__(self, key: Key, n_in: int, n_out: int, embed_dim: int):
        draw = Draw.of(key)
        self.first, self.first_norm = ImageConv(draw, n_in, n_out, 3), GroupNorm(n_out)
        self.embed = Linear(draw, embed_dim, n_out)
        self.second, self.second_norm = ImageConv(draw, n_out, n_out, 3), GroupNorm(n_out)
        self.skip = None if n_in == n_out else Linear(draw, n_in, n_out)

    def __call__(self, x: Array, embedding: Array) -> Array:
        """`embedding` is `[B, E]`, or `[E]` where the whole batch shares it."""
        h = mish(self.first_norm(self.first(x))) + self.embed(mish(embedding))
        return mish(self.second_norm(self.second(h))) + (x if self.skip is None else self.skip(x))


class ImageUNet(eqx.Module):
    """x `[..., H, W, C]` -> the same (Ho et al. 2020, smaller): a residual block a level on the way down, one in the
    middle, one a level on the way up.

    `t` is the time feature, a scalar or of x's leading shape. `cond` are `cond_channels` more channels of every pixel,
    `[..., H, W, cond_channels]`, such as a mask; None is zeros. Squares of `patch` x `patch` pixels are read, and
    written, as one place: that is the price of the first level, divided by `patch` squared. Every level but the last
    halves both sides; it is `width * multiplier` channels wide, a multiple of 8.

    Raises ReverieError where H or W is no multiple of `patch` * 2^(levels - 1), or a width none of 8.
    """

    time: TimeMLP
    read: Linear
    down: tuple[tuple[ImageResidual, ImageConv | None], ...]
    middle: ImageResidual
    up: tuple[ImageResidual, ...]
    out: Linear
    patch: int = eqx.field(static=True)
    cond_channels: int = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        channels: int = 3,
        *,
        cond_channels: int = 0,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2),
        patch: int = 2,
    ):
        draw = Draw.of(key)
        widths = [width * each for each in multipliers]
        self.time = TimeMLP(draw, Sinusoidal(width), 4 * width, width)
        self.read = Linear(draw, patch**2 * (channels + cond_channels), widths[0])
        steps = list(itertools.pairwise([widths[0], *widths]))
        halve = [ImageConv(draw, each, each, 3, stride=2) for each in widths[:-1]]
        self.down = tuple(
            (ImageResidual(draw, a, b, width), conv) for (a, b), conv in zip(steps, [*halve, None], strict=True)
        )
        self.middle = ImageResidual(draw, widths[-1], widths[-1], width)
        self.up = tuple(ImageResidual(draw, 2 * b, a, width) for a, b in reversed(steps))
        self.out = Linear(draw, widths[0], patch**2 * channels)
        self.patch, self.cond_channels = patch, cond_channels

    def __call__(self, x: Array, t: Array, cond: Array | None = None) -> Array:
        check_sides(x.shape[-3:-1], self.patch * 2 ** (len(self.down) - 1))
        cond = jnp.zeros((*x.shape[:-1], self.cond_channels)) if cond is None else cond
        embedding = self.time(t)
        embedding = embedding.reshape(-1, embedding.shape[-1]) if embedding.ndim > 1 else embedding
        h, skips = self.read(to_patches(jnp.concatenate([x, cond], -1), self.patch)), []
        for block, halve in self.down:
            h = block(h, embedding)
            skips.append(h)
            h = h if halve is None else halve(h)
        h = self.middle(h, embedding)
        for number, block in enumerate(self.up):
            h = doubled(h) if number else h
            h = block(jnp.concatenate([h, skips.pop()], -1), embedding)
        return from_patches(self.out(h), self.patch).reshape(x.shape)


def to_patches(x: Array, patch: int) -> Array:
    """`[..., H, W, C] -> [H / patch, W / patch, B, patch^2 C]`."""
    height, width, channels = x.shape[-3:]
    split = x.reshape(-1, height // patch, patch, width // patch, patch, channels)
    return split.transpose(1, 3, 0, 2, 4, 5).reshape(height // patch, width // patch, -1, patch**2 * channels)


def from_patches(h: Array, patch: int) -> Array:
    """The inverse of `to_patches`: `[B, H, W, C]`."""
    rows, columns, batch, size = h.shape
    split = h.reshape(rows, columns, batch, patch, patch, size // patch**2)
    return split.transpose(2, 0, 3, 1, 4, 5).reshape(batch, rows * patch, columns * patch, size // patch**2)


def doubled(h: Array) -> Array:
    """Every place four times: `[H, W, B, C] -> [2 H, 2 W, B, C]`."""
    return jnp.repeat(jnp.repeat(h, 2, 0), 2, 1)


def check_sides(sides: tuple[int, ...], factor: int) -> None:
    if any(side % factor for side in sides):
        raise ReverieError(
            f"Images of {sides[0]} x {sides[1]} pixels do not fit this U-Net, whose sides must be multiples of "
            f"{factor}; give another size, fewer multipliers or a smaller patch."
        )
