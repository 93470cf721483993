"""Diffuser's networks over a window of H steps: a temporal U-Net, and a value of the whole window.

Inside, a window lies time-first, `[H, B, C]`: `convolution` says why.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .conditioning import Condition, FiLM, flatten_condition
from .convolution import GROUPS, Conv, ConvBlock, UpConv
from .embeddings import Sinusoidal, TimeMLP
from .layers import Draw, Key, LayerNorm, Linear, concatenate, mish


class ResidualBlock(eqx.Module):
    """Two convolution blocks with the embedding between, and a skip: `[H, B, n_in] -> [H, B, n_out]`.

    The embedding is added; with `film` it scales and shifts every channel.
    """

    first: ConvBlock
    embed: Linear | FiLM
    second: ConvBlock
    skip: Linear | None

    def __init__(
        self,
        key: Key,
        n_in: int,
        n_out: int,
        embed_dim: int,
        kernel: int,
        *,
        film: bool = False,
        groups: int = GROUPS,
    ):
        draw = Draw.of(key)
        self.first = ConvBlock(draw, n_in, n_out, kernel, groups)
        self.embed = FiLM(draw, embed_dim, n_out) if film else Linear(draw, embed_dim, n_out)
        self.second = ConvBlock(draw, n_out, n_out, kernel, groups)
        self.skip = None if n_in == n_out else Linear(draw, n_in, n_out)

    def __call__(self, x: Array, embedding: Array) -> Array:
        """`embedding` is `[B, E]`, or `[E]` where the whole batch shares it."""
        h = self.first(x)
        h = self.embed(h, embedding) if isinstance(self.embed, FiLM) else h + self.embed(mish(embedding))
        h = self.second(h)
        return h + (x if self.skip is None else self.skip(x))


class LinearAttention(eqx.Module):
    """x + attention(norm(x)) over time, linear in its length (Shen et al., 2021): `[H, B, C]` to the same."""

    norm: LayerNorm
    qkv: Linear
    out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, key: Key, channels: int, *, heads: int = 4, head_dim: int = 32):
        draw = Draw.of(key)
        self.norm = LayerNorm(channels)
        self.qkv = Linear(draw, channels, 3 * heads * head_dim, bias=False)
        self.out = Linear(draw, heads * head_dim, channels)
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

    def __init__(
        self,
        key: Key,
        n_in: int,
        n_out: int,
        embed_dim: int,
        *,
        kernel: int,
        attention: bool = False,
        film: bool = False,
        resize: Conv | UpConv | None = None,
    ):
        draw = Draw.of(key)
        self.blocks = (
            ResidualBlock(draw, n_in, n_out, embed_dim, kernel, film=film),
            ResidualBlock(draw, n_out, n_out, embed_dim, kernel, film=film),
        )
        self.attention = LinearAttention(draw, n_out) if attention else None
        self.resize = resize

    def __call__(self, x: Array, embedding: Array) -> tuple[Array, Array]:
        """The output, and the features before the change of length."""
        for block in self.blocks:
            x = block(x, embedding)
        features = x if self.attention is None else self.attention(x)
        return features if self.resize is None else self.resize(features), features


class TemporalUNet(eqx.Module):
    """Diffuser's U-Net over time (Janner et al., 2022, appendix C): x `[..., H, D]` -> `[..., H, D]`.

    `t` is the time feature, a scalar or of x's leading shape. `cond` is `[..., cond_dim]`, or a tree of vectors that
    are so wide together, set beside the time's embedding as in Decision Diffuser; None is the zero vector. With `film`
    both scale and shift the channels, as in Diffusion Policy, instead of being added to them. H is any multiple of
    2^(levels - 1): the weights do not depend on it. Every level is `width * multiplier` channels wide, a multiple of 8.

    Raises ReverieError where H or a level's width is no such multiple.
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
        key: Key,
        in_dim: int,
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
        kernel: int = 5,
        cond_dim: int = 0,
        attention: bool = False,
        film: bool = False,
    ):
        draw = Draw.of(key)
        level = functools.partial(
            Level, draw, embed_dim=width + cond_dim, kernel=kernel, attention=attention, film=film
        )
        channels = [width * m for m in multipliers]
        steps = list(itertools.pairwise([in_dim, *channels]))
        self.time = TimeMLP(draw, Sinusoidal(width), 4 * width, width)
        self.down = (
            *(level(a, b, resize=halve(draw, b)) for a, b in steps[:-1]),
            level(*steps[-1]),
        )
        self.middle = level(channels[-1], channels[-1])
        self.up = tuple(level(2 * b, a, resize=UpConv(draw, a)) for a, b in reversed(steps[1:]))
        self.last = ConvBlock(draw, channels[0], channels[0], kernel)
        self.out = Linear(draw, channels[0], in_dim)
        self.cond_dim = cond_dim

    def __call__(
        self,
        x: Array,
        t: Array,
        cond: Condition = None,
        bottleneck: Callable[[Array], Array] | None = None,
        skips: Sequence[Callable[[Array], Array]] = (),
    ) -> Array:
        """`bottleneck` maps the features where they are shortest, `[H / 2^(levels - 1), B, C]`, to others such, and
        `skips`, one a level, those that go past it, `[H / 2^level, B, C]`."""
        check_horizon(x.shape[-2], len(self.up))
        h, embedding = time_first(x), embed(self.time, t, cond, self.cond_dim)
        kept = []
        for i, level in enumerate(self.down):
            h, features = level(h, embedding)
            kept.append(skips[i](features) if skips else features)
        h, _ = self.middle(h, embedding)
        h = h if bottleneck is None else bottleneck(h)
        for level in self.up:
            h, _ = level(jnp.concatenate([h, kept.pop()], -1), embedding)
        return jnp.moveaxis(self.out(self.last(h)), 0, 1).reshape(x.shape)


class WindowValue(eqx.Module):
    """Diffuser's value of a noisy window: x `[..., H, D]` -> `[...]`, for the one `horizon` it was made for.

    Half a U-Net that halves the length at every level, two more halving blocks of 1/2 and 1/4 of the last
    width, then the flattened features beside the time's embedding through a hidden layer. `t` and `cond` are as
    in `TemporalUNet`; the last width is a multiple of 32. Raises ReverieError where it is not, or H is not
    `horizon`.

    Where the window is one step long, the norm of a group is over its channels alone, and that of two is a sign, whose
    gradient is 0 but for spikes. So the groups of the narrow blocks have at least 8 channels, as at the paper's widths.
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
        key: Key,
        in_dim: int,
        horizon: int,
        *,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
        kernel: int = 5,
        cond_dim: int = 0,
    ):
        draw, embed_dim = Draw.of(key), width + cond_dim
        channels = [in_dim, *(width * m for m in multipliers)]
        narrow = [channels[-1], channels[-1] // 2, channels[-1] // 4]
        flat = narrow[-1] * math.ceil(horizon / 2 ** (len(multipliers) + 2))
        self.time = TimeMLP(draw, Sinusoidal(width), 4 * width, width)
        self.levels = tuple(
            Level(draw, a, b, embed_dim, kernel=kernel, resize=halve(draw, b)) for a, b in itertools.pairwise(channels)
        )
        self.narrow = tuple(
            (ResidualBlock(draw, a, b, embed_dim, kernel, groups=min(GROUPS, b // 8)), halve(draw, b))
            for a, b in itertools.pairwise(narrow)
        )
        self.hidden = Linear(draw, flat + embed_dim, flat // 2)
        self.out = Linear(draw, flat // 2, 1)
        self.cond_dim, self.horizon = cond_dim, horizon

    def __call__(self, x: Array, t: Array, cond: Condition = None) -> Array:
        if x.shape[-2] != self.horizon:
            raise ReverieError(
                f"This value network is for windows of {self.horizon} steps and was given one of {x.shape[-2]}."
            )
        h, embedding = time_first(x), embed(self.time, t, cond, self.cond_dim)
        for level in self.levels:
            h, _ = level(h, embedding)
        for block, down in self.narrow:
            h = down(block(h, embedding))
        features = jnp.moveaxis(h, 0, 1).reshape(h.shape[1], -1)
        return self.out(mish(self.hidden(concatenate(features, embedding)))).reshape(x.shape[:-2])


def halve(key: Key, channels: int) -> Conv:
    """Diffuser's down-sampling."""
    return Conv(key, channels, channels, 3, stride=2)


def time_first(x: Array) -> Array:
    """`[..., H, D] -> [H, B, D]`."""
    return jnp.moveaxis(x.reshape(-1, *x.shape[-2:]), 1, 0)


def embed(time: TimeMLP, t: Array, cond: Condition, cond_dim: int) -> Array:
    """The time's embedding beside `cond`: `[B, E]`, or `[E]` where the whole batch shares both."""
    cond = flatten_condition(cond)
    cond = jnp.zeros(cond_dim) if cond is None else cond
    return concatenate(*(e.reshape(-1, e.shape[-1]) if e.ndim > 1 else e for e in (time(t), cond)))


def check_horizon(horizon: int, halvings: int) -> None:
    factor = 2**halvings
    if horizon % factor or horizon == 0:
        nearest = max(factor, factor * round(horizon / factor))
        raise ReverieError(
            f"The horizon {horizon} cannot be halved {halvings} times: this U-Net needs a multiple of "
            f"{factor}, and the nearest that would do is {nearest}."
        )
