"""Convolutions as matrix products of shifted copies, over time and over an image, and their group norm.

Inside, the axes that are convolved come first and the batch just before the channels: time `[H, B, C]`, image
`[H, W, B, C]`. A shift is then a move of whole contiguous blocks, an embedding `[B, C]` adds to every place by
broadcasting, and the even and odd steps of a strided convolution are slices of a leading axis. On a CPU the products
are 4 to 40 times faster than XLA's own one-dimensional convolution at the short lengths met here; `ImageConv` says
what was measured in two dimensions.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .layers import Draw, Key, mish, torch_default

GROUPS = 8


def pad_time(x: Array, before: int, after: int) -> Array:
    return jnp.pad(x, ((before, after), (0, 0), (0, 0)))


class Conv(eqx.Module):
    """Convolution over time: `[H, B, n_in] -> [ceil(H / stride), B, n_out]`.

    Kernels are odd, and centred; outside the window are zeros.
    """

    weight: Array
    bias: Array
    stride: int = eqx.field(static=True)

    def __init__(self, key: Key, n_in: int, n_out: int, kernel: int, *, stride: int = 1):
        self.weight, self.bias = torch_default(Draw.of(key), (kernel, n_in, n_out), kernel * n_in)
        self.stride = stride

    def __call__(self, x: Array) -> Array:
        kernel, n_in, n_out = self.weight.shape
        padded = pad_time(x, kernel // 2, kernel // 2)
        # One product over all taps: one per tap, though it skips a short window's zeros, trains 1.4 times slower.
        shifted = [padded[i : i + len(x) : self.stride] for i in range(kernel)]
        return jnp.concatenate(shifted, -1) @ self.weight.reshape(kernel * n_in, n_out) + self.bias


class UpConv(eqx.Module):
    """Transposed convolution of kernel 4 and stride 2 that doubles the length: `[H, B, C] -> [2H, B, C]`.

    Every output sees two inputs: the step at its place, and the one before (even) or after it (odd).
    """

    weight: Array
    bias: Array

    def __init__(self, key: Key, channels: int):
        self.weight, self.bias = torch_default(Draw.of(key), (4, channels, channels), 4 * channels)

    def __call__(self, x: Array) -> Array:
        padded = pad_time(x, 1, 1)
        pairs = jnp.concatenate([padded[:-1], padded[1:]], -1)
        even = pairs[:-1] @ jnp.concatenate([self.weight[3], self.weight[1]])
        odd = pairs[1:] @ jnp.concatenate([self.weight[2], self.weight[0]])
        return jnp.stack([even, odd], 1).reshape(2 * len(x), *x.shape[1:]) + self.bias


class GroupNorm(eqx.Module):
    """Mean 0 and variance 1 over time and each group of channels, then scale and shift: `[H, B, C]`.

    Over an image `[H, W, B, C]`, over both its axes. Raises ReverieError where 8 does not divide the channels.
    """

    scale: Array
    shift: Array
    groups: int = eqx.field(static=True)

    def __init__(self, channels: int, groups: int = GROUPS):
        if channels % GROUPS:
            raise ReverieError(
                f"A layer of {channels} channels cannot be normalised in {GROUPS} groups: "
                f"choose a width that is a multiple of {GROUPS}."
            )
        self.scale, self.shift, self.groups = jnp.ones(channels), jnp.zeros(channels), groups

    def __call__(self, x: Array) -> Array:
        places = tuple(range(x.ndim - 2))
        mean = grouped_mean(x.mean(places), self.groups)
        variance = grouped_mean(jnp.square(x - mean).mean(places), self.groups)
        scale = self.scale * jax.lax.rsqrt(variance + 1e-5)
        return x * scale + (self.shift - mean * scale)


def grouped_mean(x: Array, groups: int) -> Array:
    """The mean of every group of channels, in place of each of its members: `[B, C] -> [B, C]`."""
    members = x.reshape(*x.shape[:-1], groups, -1)
    return jnp.broadcast_to(members.mean(-1, keepdims=True), members.shape).reshape(x.shape)


class ConvBlock(eqx.Module):
    """Convolution, group norm, Mish."""

    conv: Conv
    norm: GroupNorm

    def __init__(self, key: Key, n_in: int, n_out: int, kernel: int, groups: int = GROUPS):
        self.conv, self.norm = Conv(key, n_in, n_out, kernel), GroupNorm(n_out, groups)

    def __call__(self, x: Array) -> Array:
        return mish(self.norm(self.conv(x)))


class ImageConv(eqx.Module):
    """Convolution over an image: `[H, W, B, n_in] -> [ceil(H / stride), ceil(W / stride), B, n_out]`.

    Kernels are odd, and centred; outside the image are zeros. One matrix product over all taps, as in `Conv`. Measured
    on 2 cores with 64 images of 84x84x3 through five layers, one gradient: XLA's own convolution takes 0.36 s alone
    (products 0.70 s), but 2.2 to 3.1 s inside a scan (products 0.33 to 0.57 s), and training is a scan.
    """

    weight: Array
    bias: Array
    stride: int = eqx.field(static=True)

    def __init__(self, key: Key, n_in: int, n_out: int, kernel: int, *, stride: int = 1):
        self.weight, self.bias = torch_default(Draw.of(key), (kernel, kernel, n_in, n_out), kernel**2 * n_in)
        self.stride = stride

    def __call__(self, x: Array) -> Array:
        kernel, _, n_in, n_out = self.weight.shape
        (height, width), edge, stride = x.shape[:2], kernel // 2, self.stride
        padded = jnp.pad(x, ((edge, edge), (edge, edge), (0, 0), (0, 0)))
        rows = [padded[i : i + height : stride] for i in range(kernel)]
        shifted = [row[:, j : j + width : stride] for row in rows for j in range(kernel)]
        return jnp.concatenate(shifted, -1) @ self.weight.reshape(kernel**2 * n_in, n_out) + self.bias
