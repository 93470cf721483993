"""Transformers: over a window with adaptive layer norm, over any tokens, over steps of several tokens, and over a chunk
with conditions as tokens."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from ..errors import ReverieError
from .attention import CrossAttention, SelfAttention
from .conditioning import AdaptiveNorm, Condition, flatten_condition, modulate
from .embeddings import Sinusoidal, TimeMLP, sinusoidal
from .layers import Draw, Key, LayerNorm, Linear, by_rows, dropout, xavier, zeros


class FeedForward(eqx.Module):
    """Two layers with a GELU between, four times as wide inside: `[..., width] -> [..., width]`."""

    wide: Linear
    back: Linear

    def __init__(self, key: Key, width: int):
        draw = Draw.of(key)
        self.wide = Linear(draw, width, 4 * width, init=xavier)
        self.back = Linear(draw, 4 * width, width, init=xavier)

    def __call__(self, x: Array) -> Array:
        return by_rows(lambda rows: self.back(jax.nn.gelu(self.wide(rows))), x)


class Block(eqx.Module):
    """Self-attention and an MLP, each shifted, scaled and gated by the embedding; the identity at the start.

    x `[..., L, width]`, embedding `[..., width]` -> `[..., L, width]`.
    """

    steer: AdaptiveNorm
    attention: SelfAttention
    feed: FeedForward

    def __init__(self, key: Key, width: int, heads: int):
        draw = Draw.of(key)
        self.steer = AdaptiveNorm(draw, width, 6)
        self.attention = SelfAttention(draw, width, heads)
        self.feed = FeedForward(draw, width)

    def __call__(self, x: Array, embedding: Array) -> Array:
        scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = self.steer(embedding)
        x = x + gate * self.attention(modulate(x, scale, shift))
        return x + mlp_gate * self.feed(modulate(x, mlp_scale, mlp_shift))


class WindowTransformer(eqx.Module):
    """DiT over time (Peebles and Xie, 2023; over steps in place of patches).

    x `[..., H, in_dim]`, t a scalar or x's leading shape, cond `[..., cond_dim]` or a tree of vectors that are so wide
    together (None is the zero vector) -> `[..., H, in_dim]`, 0 at the start. Positions are sinusoidal and H is free;
    with a `horizon` they are learned and H is at most that. Raises ReverieError for a longer window and for a width
    that `heads` does not divide.
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

    def __call__(self, x: Array, t: Array, cond: Condition = None) -> Array:
        h = self.project(x) + self.position(x.shape[-2])
        embedding, cond = self.time(t), flatten_condition(cond)
        if self.cond is not None and cond is not None:
            embedding = embedding + self.cond(cond)
        for block in self.blocks:
            h = block(h, embedding)
        return self.out(modulate(h, *self.steer(embedding)))

    def position(self, length: int) -> Array:
        """`[length, width]`"""
        if self.positions is None:
            return sinusoidal(jnp.arange(length), self.project.weight.shape[-1])
        return first_positions(self.positions, length)


class WindowCritic(eqx.Module):
    """A value of a window by a transformer, read at its first row (Lu et al., 2025): `[..., H, in_dim] -> [...]`.

    Positions are sinusoidal and H is free. Raises ReverieError for a width that `heads` does not divide.
    """

    project: Linear
    transformer: "Transformer"
    out: Linear

    def __init__(self, key: Key, in_dim: int, *, width: int = 256, heads: int = 4, depth: int = 2):
        draw = Draw.of(key)
        self.project = Linear(draw, in_dim, width, init=xavier)
        self.transformer = Transformer(draw, width, heads=heads, depth=depth)
        self.out = Linear(draw, width, 1, init=xavier)

    def __call__(self, x: Array) -> Array:
        h = self.project(x) + sinusoidal(jnp.arange(x.shape[-2]), self.project.weight.shape[-1])
        return self.out(self.transformer(h)[..., 0, :])[..., 0]


class Layer(eqx.Module):
    """Self-attention, attention to a context where there is one, and an MLP, each on a layer norm and added.

    x `[..., L, width]`, context `[..., M, context_dim]` -> `[..., L, width]`.
    """

    attention: SelfAttention
    cross: CrossAttention | None
    feed: FeedForward
    norms: tuple[LayerNorm, ...]

    def __init__(self, key: Key, width: int, heads: int, context_dim: int = 0):
        draw = Draw.of(key)
        self.attention = SelfAttention(draw, width, heads)
        self.cross = CrossAttention(draw, width, heads, context_dim) if context_dim else None
        self.feed = FeedForward(draw, width)
        self.norms = tuple(LayerNorm(width) for _ in range(3 if context_dim else 2))

    def __call__(
        self,
        x: Array,
        context: Array | None = None,
        *,
        causal: bool = False,
        valid: Array | None = None,
        context_mask: Array | None = None,
        context_valid: Array | None = None,
        rate: float = 0.0,
        key: Array | None = None,
    ) -> Array:
        """Masks are `SelfAttention`'s and `CrossAttention`'s; dropout of what is added, only where a `key` is given."""
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        x = x + dropout(self.attention(self.norms[0](x), causal=causal, valid=valid), rate, keys[0])
        if self.cross is not None and context is not None:
            seen = self.cross(self.norms[1](x), context, mask=context_mask, valid=context_valid)
            x = x + dropout(seen, rate, keys[1])
        return x + dropout(self.feed(self.norms[-1](x)), rate, keys[2])


class Transformer(eqx.Module):
    """GPT's stack over tokens that are already embedded, positions included: `[..., L, width] -> [..., L, width]`.

    Layer norm first (as GPT-2; Decision Transformer is built on it), and once more at the end. A `causal` one lets no
    token see a later one. With a `context_dim` every layer also looks at a context `[..., M, context_dim]`. Dropout of
    `rate` on what each layer adds, only where a `key` is given. Raises ReverieError for a width that `heads` does not
    divide.
    """

    layers: tuple[Layer, ...]
    norm: LayerNorm
    causal: bool = eqx.field(static=True)
    rate: float = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        width: int,
        *,
        heads: int = 4,
        depth: int = 4,
        causal: bool = False,
        context_dim: int = 0,
        rate: float = 0.0,
    ):
        draw = Draw.of(key)
        self.layers = tuple(Layer(draw, width, heads, context_dim) for _ in range(depth))
        self.norm, self.causal, self.rate = LayerNorm(width), causal, rate

    def __call__(
        self,
        x: Array,
        context: Array | None = None,
        *,
        valid: Array | None = None,
        context_mask: Array | None = None,
        context_valid: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        """`valid` `[..., L]`: tokens that may be seen; `context_mask` `[L, M]` and `context_valid` `[..., M]` too."""
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        masks = {"valid": valid, "context_mask": context_mask, "context_valid": context_valid}
        for layer, layer_key in zip(self.layers, keys, strict=True):
            x = layer(x, context, causal=self.causal, rate=self.rate, key=layer_key, **masks)
        return self.norm(x)


class StepEmbedding(eqx.Module):
    """Steps as tokens, one for each of a step's parts.

    Parts `[..., T, part_dim]` of T steps, and the steps' numbers, int `[..., T]` -> `[..., T, parts, width]`. Each
    number has a learned embedding, added to all of its step's tokens; those from `timesteps` on share the last one.
    """

    embed: tuple[Linear, ...]
    times: Array

    def __init__(self, key: Key, part_dims: Sequence[int], timesteps: int, *, width: int = 128):
        draw = Draw.of(key)
        self.embed = tuple(Linear(draw, dim, width) for dim in part_dims)
        self.times = 0.02 * draw.normal((timesteps, width))

    def tokens(self, parts: Sequence[Array], timesteps: Array) -> Array:
        times = self.times[jnp.clip(timesteps, 0, len(self.times) - 1)]
        return jnp.stack([embed(part) + times for embed, part in zip(self.embed, parts, strict=True)], -2)


class StepTransformer(StepEmbedding):
    """Decision Transformer's: every step is several tokens, one for each of its parts, in order (Chen et al., 2021).

    Parts `[..., T, part_dim]` of T steps, and the steps' numbers in their episode, int `[..., T]` ->
    `[..., T, parts, width]`. What comes of a part has seen the parts up to it, of its own step and of those before.
    Dropout of `rate` only where a `key` is given. Raises ReverieError for a width that `heads` does not divide.
    """

    norm: LayerNorm
    transformer: Transformer

    def __init__(
        self,
        key: Key,
        part_dims: Sequence[int],
        timesteps: int,
        *,
        width: int = 128,
        heads: int = 1,
        depth: int = 3,
        rate: float = 0.0,
    ):
        draw = Draw.of(key)
        super().__init__(draw, part_dims, timesteps, width=width)
        self.norm = LayerNorm(width)
        self.transformer = Transformer(draw, width, heads=heads, depth=depth, causal=True, rate=rate)

    def __call__(
        self,
        parts: Sequence[Array],
        timesteps: Array,
        *,
        before: Array | None = None,
        valid: Array | None = None,
        key: Array | None = None,
    ) -> Array:
        """`before` `[..., M, width]`: tokens that all steps see, embedded elsewhere and not dropped here. `valid`
        `[..., T]`, boolean: steps that may be seen; the numbers of others mean nothing."""
        embed_key, key = (None, None) if key is None else jax.random.split(key)
        tokens = dropout(self.norm(self.tokens(parts, timesteps)), self.transformer.rate, embed_key)
        flat = tokens.reshape(*tokens.shape[:-3], -1, tokens.shape[-1])
        seen = None if valid is None else jnp.repeat(valid, len(parts), -1)
        if before is None:
            return self.transformer(flat, valid=seen, key=key).reshape(tokens.shape)
        first = jnp.broadcast_to(self.norm(before), (*flat.shape[:-2], *before.shape[-2:]))
        if seen is not None:
            seen = jnp.concatenate([jnp.ones((*seen.shape[:-1], before.shape[-2]), bool), seen], -1)
        made = self.transformer(jnp.concatenate([first, flat], -2), valid=seen, key=key)
        return made[..., before.shape[-2] :, :].reshape(tokens.shape)


class ChunkTransformer(eqx.Module):
    """Diffusion Policy's transformer over a chunk of actions, with time and conditions as tokens (Chi et al., 2023).

    x `[..., H, in_dim]`, t a scalar or x's leading shape, cond `[..., M, cond_dim]` or None -> `[..., H, in_dim]`.
    Step h sees the steps up to h, the time, and the conditions up to the h-th: chunk and observations begin together.
    H is at most `horizon` and M at most `cond_tokens`, for which positions are learned. Raises ReverieError where one
    is longer, or for a width that `heads` does not divide.
    """

    project: Linear
    cond: Linear | None
    positions: Array
    cond_positions: Array
    context: FeedForward
    transformer: Transformer
    out: Linear

    def __init__(
        self,
        key: Key,
        in_dim: int,
        horizon: int,
        *,
        width: int = 256,
        heads: int = 4,
        depth: int = 8,
        cond_dim: int = 0,
        cond_tokens: int = 0,
        rate: float = 0.0,
    ):
        draw = Draw.of(key)
        self.project = Linear(draw, in_dim, width)
        self.cond = Linear(draw, cond_dim, width) if cond_dim else None
        self.positions = 0.02 * draw.normal((horizon, width))
        self.cond_positions = 0.02 * draw.normal((1 + cond_tokens, width))
        self.context = FeedForward(draw, width)
        self.transformer = Transformer(draw, width, heads=heads, depth=depth, causal=True, context_dim=width, rate=rate)
        self.out = Linear(draw, width, in_dim)

    def __call__(self, x: Array, t: Array, cond: Condition = None, *, key: Array | None = None) -> Array:
        h = self.project(x) + first_positions(self.positions, x.shape[-2])
        context = self.tokens(t, flatten_condition(cond), x.shape[:-2])
        steps, conditions = jnp.arange(x.shape[-2]), jnp.arange(context.shape[-2]) - 1
        return self.out(self.transformer(h, context, context_mask=steps[:, None] >= conditions, key=key))

    def tokens(self, t: Array, cond: Array | None, lead: tuple[int, ...]) -> Array:
        """The time, then the conditions: `[..., 1 + M, width]`."""
        width = self.project.weight.shape[-1]
        tokens = jnp.broadcast_to(sinusoidal(t, width)[..., None, :], (*lead, 1, width))
        if self.cond is not None and cond is not None:
            embedded = jnp.broadcast_to(self.cond(cond), (*lead, cond.shape[-2], width))
            tokens = jnp.concatenate([tokens, embedded], -2)
        return self.context(tokens + first_positions(self.cond_positions, tokens.shape[-2]))


def first_positions(positions: Array, length: int) -> Array:
    """The first `length` of learned positions `[L, width]`; raises ReverieError where there are not so many."""
    if length > len(positions):
        raise ReverieError(f"This transformer learned positions for {len(positions)} steps and was given {length}.")
    return positions[:length]
