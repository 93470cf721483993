"""A transformer over tokens of which some are masked: what each position says, and what stood there."""

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from .embeddings import Sinusoidal, TimeMLP
from .layers import Draw, Key, Linear
from .transformer import Transformer, first_positions


class TokenTransformer(eqx.Module):
    """Tokens int `[..., L]` of `count`, where any number from `count` on is the mask, a time t (scalar or x's leading
    shape) and a context `[..., M, width]` -> features `[..., L, width]` and logits `[..., L, count]`.

    Every position sees all others. Positions are learned, for L of at most `length`. Raises ReverieError for longer
    sequences, and for a width that `heads` does not divide.
    """

    table: Array
    positions: Array
    time: TimeMLP
    transformer: Transformer
    out: Linear

    def __init__(
        self,
        key: Key,
        count: int,
        length: int,
        *,
        width: int = 256,
        heads: int = 4,
        depth: int = 4,
        rate: float = 0.0,
    ):
        draw = Draw.of(key)
        self.table = 0.02 * draw.normal((count + 1, width))
        self.positions = 0.02 * draw.normal((length, width))
        self.time = TimeMLP(draw, Sinusoidal(width), width, width)
        self.transformer = Transformer(draw, width, heads=heads, depth=depth, context_dim=width, rate=rate)
        self.out = Linear(draw, width, count)

    @property
    def length(self) -> int:
        return len(self.positions)

    def __call__(self, x: Array, t: Array, context: Array, *, key: Array | None = None) -> tuple[Array, Array]:
        tokens = self.table[jnp.minimum(x, len(self.table) - 1)]
        h = tokens + first_positions(self.positions, x.shape[-1]) + self.time(t)[..., None, :]
        features = self.transformer(h, context, key=key)
        return features, self.out(features)
