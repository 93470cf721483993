"""A transformer that denoises rows beside tokens of all that is known of them (He et al., 2023)."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jax import Array

from .conditioning import FiLM
from .embeddings import Sinusoidal, TimeMLP
from .layers import Draw, Key, Linear
from .transformer import Transformer, first_positions


class PromptTransformer(eqx.Module):
    """x `[..., H, D]` of H rows, t a scalar or x's leading shape, and what is given, arrays `[..., L_i, d_i]` whose
    leading shapes broadcast to x's -> `[..., H, D]`.

    Tokens are the time, what is given, in order, and every row's parts, in order; each part of a row has a token of its
    own, D is the sum of their sizes. The time, and of what is given the single rows at the places `steering`, also
    scale and shift all tokens; positions are learned. Every token sees all others. Dropout of `rate` on what the layers
    add, only where a `key` is given. Raises ReverieError for a width that is odd or that `heads` does not divide, and
    for more tokens than positions.
    """

    time: TimeMLP
    steer: FiLM
    given: tuple[Linear, ...]
    parts: tuple[Linear, ...]
    positions: Array
    transformer: Transformer
    outs: tuple[Linear, ...]
    sizes: tuple[int, ...] = eqx.field(static=True)
    """Of a row's parts."""
    steering: tuple[int, ...] = eqx.field(static=True)
    """Places among what is given."""

    def __init__(
        self,
        key: Key,
        sizes: Sequence[int],
        horizon: int,
        given: Sequence[tuple[int, int]],
        *,
        width: int = 256,
        heads: int = 4,
        depth: int = 4,
        rate: float = 0.0,
        steering: Sequence[int] = (),
    ):
        """`given` are the lengths and sizes (L_i, d_i)."""
        draw = Draw.of(key)
        self.transformer = Transformer(draw, width, heads=heads, depth=depth, rate=rate)
        self.time, self.steer = TimeMLP(draw, Sinusoidal(width), width, width), FiLM(draw, width, width)
        self.given = tuple(Linear(draw, size, width) for _, size in given)
        self.parts = tuple(Linear(draw, size, width) for size in sizes)
        self.outs = tuple(Linear(draw, width, size) for size in sizes)
        tokens = 1 + sum(length for length, _ in given) + horizon * len(sizes)
        self.positions, self.sizes = 0.02 * draw.normal((tokens, width)), tuple(sizes)
        self.steering = tuple(steering)

    def __call__(self, x: Array, t: Array, given: Sequence[Array], *, key: Array | None = None) -> Array:
        *lead, horizon, _ = x.shape
        time = self.time(t)[..., None, :]
        known = [time, *(embed(each) for embed, each in zip(self.given, given, strict=True))]
        led = time + sum(known[1 + place] for place in self.steering)
        cuts = [sum(self.sizes[:i]) for i in range(1, len(self.sizes))]
        split = jnp.split(x, cuts, -1)
        rows = jnp.stack([embed(part) for embed, part in zip(self.parts, split, strict=True)], -2)
        rows = rows.reshape(*lead, -1, rows.shape[-1])
        tokens = jnp.concatenate([*(jnp.broadcast_to(each, (*lead, *each.shape[-2:])) for each in known), rows], -2)
        tokens = self.steer(tokens, led) + first_positions(self.positions, tokens.shape[-2])
        seen = self.transformer(tokens, key=key)[..., -rows.shape[-2] :, :]
        seen = seen.reshape(*lead, horizon, len(self.sizes), seen.shape[-1])
        return jnp.concatenate([out(seen[..., i, :]) for i, out in enumerate(self.outs)], -1)


__all__ = ["PromptTransformer"]
