"""Diffuser's networks over a window of H steps: a temporal U-Net, and a value of the whole window.

Inside, a window lies time-first, `[H, B, C]`: a shift in time is then a move of whole contiguous blocks, an
embedding `[B, C]` adds to every step by broadcasting, and the even and odd steps of a strided convolution
are slices of the leading axis. Convolutions are matrix products of shifted copies: on a CPU that is 4 to 40
times faster than XLA's own one-dimensional convolution at the short lengths met here.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .embeddings import TimeMLP
from .layers import LayerNorm, Linear, mish, torch_default

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

    def __init__(self, key: Array, n_in: int, n_out: int, kernel: int, *, stride: int = 1):
        self.weight, self.bias = torch_default(key, (kernel, n_in, n_out), kernel * n_in)
        self.stride = stride

    def __call__(self, x: Array) -> Array:
        kernel, n_in, n_out = self.weight.shape
        padded = pad_time(x, kernel // 2, kernel // 2)
        shifted = [padded[i : i + len(x) : self.stride] for i in range(kernel)]
        return jnp.concatenate(shifted, -1) @ self.weight.reshape(kernel * n_in, n_out) + self.bias


class UpConv(eqx.Module):
    """Transposed convolution of kernel 4 and stride 2 that doubles the length: `[H, B, C] -> [2H, B, C]`.

    Every output sees two inputs: the step at its place, and the one before (even) or after it (odd).
    """

    weight: Array
    bias: Array

    def __init__(self, key: Array, channels: int):
        self.weight, self.bias = torch_default(key, (4, channels, channels), 4 * channels)

    def __call__(self, x: Array) -> Array:
        padded = pad_time(x, 1, 1)
        pairs = jnp.concatenate([padded[:-1], padded[1:]], -1)
        even = pairs[:-1] @ jnp.concatenate([self.weight[3], self.weight[1]])
        odd = pairs[1:] @ jnp.concatenate([self.weight[2], self.weight[0]])
        return jnp.stack([even, odd], 1).reshape(2 * len(x), *x.shape[1:]) + self.bias


class GroupNorm(eqx.Module):
    """Mean 0 and variance 1 over time and each of 8 groups of channels, then scale and shift: `[H, B, C]`."""

    scale: Array
    shift: Array

    def __init__(self, channels: int):
        if channels % GROUPS:
            raise ReverieError(
                f"A layer of {channels} channels cannot be normalised in {GROUPS} groups: "
                f"choose a width that is a multiple of {GROUPS}."
            )
        self.scale, self.shift = jnp.ones(channels), jnp.zeros(channels)

    def __call__(self, x: Array) -> Array:
        mean = grouped_mean(x.mean(0))
        variance = grouped_mean(jnp.square(x - mean).mean(0))
        scale = self.scale * jax.lax.rsqrt(variance + 1e-5)
        return x * scale + (self.shift - mean * scale)


def grouped_mean(x: Array) -> Array:
    """The mean of every group of channels, in place of each of its members: `[B, C] -> [B, C]`."""
    groups = x.reshape(*x.shape[:-1], GROUPS, -1)
    return jnp.broadcast_to(groups.mean(-1, keepdims=True), groups.shape).reshape(x.shape)


class ConvBlock(eqx.Module):
    """Convolution, group norm, Mish."""

    conv: Conv
    norm: GroupNorm

    def __init__(self, key: Array, n_in: int, n_out: int, kernel: int):
        self.conv, self.norm = Conv(key, n_in, n_out, kernel), GroupNorm(n_out)

    def __call__(self, x: Array) -> Array:
        return mish(self.norm(self.conv(x)))


class ResidualBlock(eqx.Module):
    """Two convolution blocks with the embedding added between, and a skip: `[H, B, n_in] -> [H, B, n_out]`."""

    first: ConvBlock
    embed: Linear
    second: ConvBlock
    skip: Linear | None

    def __init__(self, key: Array, n_in: int, n_out: int, embed_dim: int, kernel: int):
        keys = jax.random.split(key, 4)
        self.first = ConvBlock(keys[0], n_in, n_out, kernel)
        self.embed = Linear(keys[1], embed_dim, n_out)
        self.second = ConvBlock(keys[2], n_out, n_out, kernel)
        self.skip = None if n_in == n_out else Linear(keys[3], n_in, n_out)

    def __call__(self, x: Array, embedding: Array) -> Array:
        """`embedding` is `[B, E]`, or `[E]` where the whole batch shares it."""
        h = self.second(self.first(x) + self.embed(mish(embedding)))
        return h + (x if self.skip is None else self.skip(x))


class LinearAttention(eqx.Module):
    """x + attention(norm(x)) over time, linear in its length (Shen et al., 2021): `[H, B, C]` to the same."""

    norm: LayerNorm
    qkv: Linear
    out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, key: Array, channels: int, *, heads: int = 4, head_dim: int = 32):
        keys = jax.random.split(key)
        self.norm = LayerNorm(channels)
        self.qkv = Linear(keys[0], channels, 3 * heads * head_dim, bias=False)
        self.out = Linear(keys[1], heads * head_dim, channels)
        self.heads = heads

    def __call__(self, x: Array) -> Array:
        length, batch, _ = x.shape
        q, k, v = jnp.moveaxis(self.qkv(self.norm(x)).reshape(length, batch, 3, self.heads, -1), 2, 0)
        context = jnp.einsum("tbhd,tbhe->bhde", jax.nn.softmax(k, 0), v) / math.sqrt(q.shape[-1])
        return x + self.out(jnp.einsum("tbhd,bhde->tbhe", q, context).reshape(length, batch, -1))


class Level(eqx.Module):
    """Two residual blocks, attention where wanted, and a change of length (down, up or none)."""

    blocks: tuple[ResidualBlock, ResidualBlock]
    attention: LinearAttention | None
    resize: Conv | UpConv | None

    def __init__(self, key: Array, n_in: int, n_out: int, embed_dim: int, kernel: int, attention: bool, resize: str):
        keys = jax.random.split(key, 4)
        self.blocks = (
            ResidualBlock(keys[0], n_in, n_out, embed_dim, kernel),
            ResidualBlock(keys[1], n_out, n_out, embed_dim, kernel),
        )
        self.attention = LinearAttention(keys[2], n_out) if attention else None
        match resize:
            case "down":
                self.resize = Conv(keys[3], n_out, n_out, 3, stride=2)
            case "up":
                self.resize = UpConv(keys[3], n_out)
            case _:
                self.resize = None

    def __call__(self, x: Array, embedding: Array) -> tuple[Array, Array]:
        """The output, and the features before the change of length."""
        for block in self.blocks:
            x = block(x, embedding)
        features = x if self.attention is None else self.attention(x)
        return features if self.resize is None else self.resize(features), features


class TemporalUNet(eqx.Module):
    """Diffuser's U-Net over time (Janner et al., 2022, appendix C): x `[..., H, D]` -> `[..., H, D]`.

    `t` is the time feature, a scalar or of x's leading shape. `cond` is `[..., cond_dim]`, set beside the
    time's embedding as in Decision Diffuser; None is the zero vector. H is any multiple of 2^(levels - 1): the
    weights do not depend on it. Every level is `width * multiplier` channels wide, a multiple of 8.

    Raises ReverieError where H is not such a multiple.
    """

    time: TimeMLP
    down: tuple[Level, ...]
    middle: Level
    up: tuple[Level, ...]
    last: ConvBlock
    out: Linear
    cond_dim: int = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        in_dim: int,
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
        kernel: int = 5,
        cond_dim: int = 0,
        attention: bool = False,
    ):
        channels = [in_dim, *(width * m for m in multipliers)]
        levels, embed_dim = len(multipliers), width + cond_dim
        time_key, down_key, middle_key, up_key, last_key, out_key = jax.random.split(key, 6)
        self.time = TimeMLP(time_key, width)
        self.down = tuple(
            Level(k, a, b, embed_dim, kernel, attention, "down" if i < levels - 1 else "none")
            for i, (k, a, b) in enumerate(
                zip(jax.random.split(down_key, levels), channels[:-1], channels[1:], strict=True)
            )
        )
        self.middle = Level(middle_key, channels[-1], channels[-1], embed_dim, kernel, attention, "none")
        self.up = tuple(
            Level(k, 2 * b, a, embed_dim, kernel, attention, "up")
            for k, a, b in zip(jax.random.split(up_key, levels - 1), channels[-2:0:-1], channels[:1:-1], strict=True)
        )
        self.last = ConvBlock(last_key, channels[1], channels[1], kernel)
        self.out = Linear(out_key, channels[1], in_dim)
        self.cond_dim = cond_dim

    def __call__(self, x: Array, t: Array, cond: Array | None = None) -> Array:
        check_horizon(x.shape[-2], len(self.up))
        h, embedding = time_first(x), embed(self.time, t, cond, self.cond_dim, x.shape[:-2])
        skips = []
        for level in self.down:
            h, features = level(h, embedding)
            skips.append(features)
        h, _ = self.middle(h, embedding)
        for level in self.up:
            h, _ = level(jnp.concatenate([h, skips.pop()], -1), embedding)
        return jnp.moveaxis(self.out(self.last(h)), 0, 1).reshape(x.shape)


class WindowValue(eqx.Module):
    """Diffuser's value of a noisy window: x `[..., H, D]` -> `[...]`, for the one `horizon` it was made for.

    Half a U-Net that halves the length at every level, two more halving blocks of 1/2 and 1/4 of the last
    width, then the flattened features beside the time's embedding through a hidden layer. `t` and `cond` are as
    in `TemporalUNet`. Raises ReverieError where H is not `horizon`.
    """

    time: TimeMLP
    levels: tuple[Level, ...]
    narrow: tuple[tuple[ResidualBlock, Conv], ...]
    hidden: Linear
    out: Linear
    cond_dim: int = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    def __init__(
        self,
        key: Array,
        in_dim: int,
        horizon: int,
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
        kernel: int = 5,
        cond_dim: int = 0,
    ):
        channels = [in_dim, *(width * m for m in multipliers)]
        embed_dim = width + cond_dim
        time_key, levels_key, narrow_key, hidden_key, out_key = jax.random.split(key, 5)
        self.time = TimeMLP(time_key, width)
        self.levels = tuple(
            Level(k, a, b, embed_dim, kernel, False, "down")
            for k, a, b in zip(jax.random.split(levels_key, len(multipliers)), channels[:-1], channels[1:], strict=True)
        )
        narrow = [channels[-1], channels[-1] // 2, channels[-1] // 4]
        keys = jax.random.split(narrow_key, 4)
        self.narrow = tuple(
            (ResidualBlock(k, a, b, embed_dim, kernel), Conv(j, b, b, 3, stride=2))
            for k, j, a, b in zip(keys[:2], keys[2:], narrow[:-1], narrow[1:], strict=True)
        )
        flat = narrow[-1] * math.ceil(horizon / 2 ** (len(multipliers) + 2))
        self.hidden = Linear(hidden_key, flat + embed_dim, flat // 2)
        self.out = Linear(out_key, flat // 2, 1)
        self.cond_dim, self.horizon = cond_dim, horizon

    def __call__(self, x: Array, t: Array, cond: Array | None = None) -> Array:
        if x.shape[-2] != self.horizon:
            raise ReverieError(
                f"This value network is for windows of {self.horizon} steps and was given one of {x.shape[-2]}."
            )
        h, embedding = time_first(x), embed(self.time, t, cond, self.cond_dim, x.shape[:-2])
        for level in self.levels:
            h, _ = level(h, embedding)
        for block, down in self.narrow:
            h = down(block(h, embedding))
        features = jnp.moveaxis(h, 0, 1).reshape(h.shape[1], -1)
        embedding = jnp.broadcast_to(embedding, (len(features), embedding.shape[-1]))
        values = self.out(mish(self.hidden(jnp.concatenate([features, embedding], -1))))
        return values.reshape(x.shape[:-2])


def time_first(x: Array) -> Array:
    """`[..., H, D] -> [H, B, D]`."""
    return jnp.moveaxis(x.reshape(-1, *x.shape[-2:]), 1, 0)


def embed(time: TimeMLP, t: Array, cond: Array | None, cond_dim: int, batch: tuple[int, ...]) -> Array:
    """The time's embedding beside `cond`: `[B, E]`, or `[E]` where the whole batch shares both."""
    embedding = time(t)
    if embedding.ndim > 1:
        embedding = embedding.reshape(-1, embedding.shape[-1])
    if cond_dim == 0:
        return embedding
    cond = jnp.zeros(cond_dim) if cond is None else jnp.broadcast_to(cond, (*batch, cond_dim)).reshape(-1, cond_dim)
    rows = jnp.broadcast_shapes(embedding.shape[:-1], cond.shape[:-1])
    return jnp.concatenate([jnp.broadcast_to(e, (*rows, e.shape[-1])) for e in (embedding, cond)], -1)


def check_horizon(horizon: int, halvings: int) -> None:
    factor = 2**halvings
    if horizon % factor or horizon == 0:
        nearest = max(factor, factor * round(horizon / factor))
        raise ReverieError(
            f"The horizon {horizon} cannot be halved {halvings} times: this U-Net needs a multiple of "
            f"{factor}, and the nearest that would do is {nearest}."
        )
