"""Networks on vectors: critics and other plain regressions, and denoisers of an action or a transition.

A denoiser's `cond` is a vector `[..., cond_dim]`, or a tree of vectors that are so wide together.
"""

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
from jax import Array

from .conditioning import Condition, flatten_condition
from .embeddings import Fourier, Sinusoidal, TimeMLP
from .layers import (
    Activation,
    Draw,
    Initialiser,
    Key,
    LayerNorm,
    Linear,
    concatenate,
    dropout,
    mish,
    torch_default,
    xavier,
)

Net = TypeVar("Net")


class MLP(eqx.Module):
    """Linear layers with an activation (and, where asked, a layer norm before it) after each but the last.

    `[..., n_in] -> [..., n_out]`.
    """

    layers: tuple[Linear, ...]
    norms: tuple[LayerNorm, ...]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        n_in: int,
        n_out: int,
        *,
        hidden: tuple[int, ...] = (256, 256),
        activation: Activation = mish,
        layer_norm: bool = False,
        init: Initialiser = torch_default,
        last_init: Initialiser | None = None,
    ):
        """`last_init` is the last layer's initialiser, where it is another."""
        draw, sizes = Draw.of(key), (n_in, *hidden, n_out)
        inits = [*[init] * len(hidden), last_init or init]
        self.layers = tuple(
            Linear(draw, a, b, init=how) for (a, b), how in zip(itertools.pairwise(sizes), inits, strict=True)
        )
        self.norms = tuple(LayerNorm(size) for size in hidden) if layer_norm else ()
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            x = self.activation(self.norms[i](x) if self.norms else x)
        return self.layers[-1](x)


class DenoisingMLP(eqx.Module):
    """Diffusion-QL's network: x, the time's embedding and `cond` side by side through an MLP.

    x `[..., x_dim]`, t a scalar or `[...]`, cond `[..., cond_dim]` -> `[..., x_dim]` (Wang et al., 2023).
    """

    time: TimeMLP
    mlp: MLP

    def __init__(
        self,
        key: Key,
        x_dim: int,
        cond_dim: int = 0,
        *,
        hidden: tuple[int, ...] = (256, 256, 256),
        time_dim: int = 16,
        activation: Activation = mish,
        layer_norm: bool = False,
    ):
        draw = Draw.of(key)
        self.time = TimeMLP(draw, Sinusoidal(time_dim), 2 * time_dim, time_dim)
        n_in = x_dim + time_dim + cond_dim
        self.mlp = MLP(draw, n_in, x_dim, hidden=hidden, activation=activation, layer_norm=layer_norm)

    def __call__(self, x: Array, t: Array, cond: Condition = None) -> Array:
        return self.mlp(concatenate(x, self.time(t), flatten_condition(cond)))


class NoisyValue(eqx.Module):
    """A number of a noisy vector, beside the time's embedding: x `[..., D]`, t a scalar or `[...]` -> `[...]`."""

    time: TimeMLP
    mlp: MLP

    def __init__(self, key: Key, x_dim: int, *, hidden: tuple[int, ...], time_dim: int = 16):
        draw = Draw.of(key)
        self.time = TimeMLP(draw, Sinusoidal(time_dim), 2 * time_dim, time_dim)
        self.mlp = MLP(draw, x_dim + time_dim, 1, hidden=hidden)

    def __call__(self, x: Array, t: Array) -> Array:
        return self.mlp(concatenate(x, self.time(t)))[..., 0]


class ResNetBlock(eqx.Module):
    """x + Linear(Mish(Linear(norm(dropout(x))))), wider by `expansion` inside."""

    norm: LayerNorm
    wide: Linear
    back: Linear

    def __init__(self, key: Key, width: int, expansion: int):
        draw = Draw.of(key)
        self.norm = LayerNorm(width)
        self.wide = Linear(draw, width, expansion * width)
        self.back = Linear(draw, expansion * width, width)

    def __call__(self, x: Array, rate: float, key: Array | None) -> Array:
        return x + self.back(mish(self.wide(self.norm(dropout(x, rate, key)))))


class LayerNormResNet(eqx.Module):
    """IDQL's behaviour network: residual blocks with layer norm and dropout (Hansen-Estruch et al., 2023).

    x `[..., x_dim]`, t a scalar or `[...]`, cond `[..., cond_dim]` -> `[..., x_dim]`. Learned Fourier features of
    t; first and last layer by Xavier's rule. Dropout only where a `key` is given.
    """

    time: TimeMLP
    first: Linear
    blocks: tuple[ResNetBlock, ...]
    last: Linear
    rate: float = eqx.field(static=True)

    def __init__(
        self,
        key: Key,
        x_dim: int,
        cond_dim: int = 0,
        *,
        width: int = 256,
        blocks: int = 3,
        expansion: int = 4,
        rate: float = 0.1,
        time_dim: int = 64,
    ):
        draw = Draw.of(key)
        embed = Fourier(draw, time_dim, scale=0.2, learned=True)
        self.time = TimeMLP(draw, embed, 2 * time_dim, 2 * time_dim)
        self.first = Linear(draw, x_dim + cond_dim + 2 * time_dim, width, init=xavier)
        self.blocks = tuple(ResNetBlock(draw, width, expansion) for _ in range(blocks))
        self.last = Linear(draw, width, x_dim, init=xavier)
        self.rate = rate

    def __call__(self, x: Array, t: Array, cond: Condition = None, *, key: Array | None = None) -> Array:
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        h = self.first(concatenate(x, flatten_condition(cond), self.time(t)))
        for block, block_key in zip(self.blocks, keys, strict=True):
            h = block(h, self.rate, block_key)
        return self.last(mish(h))


class ConditionedBlock(eqx.Module):
    """Two layers with a code of the condition added between them, and a way around them."""

    first: Linear
    code: Linear
    last: Linear
    around: Linear | None

    def __init__(self, key: Key, n_in: int, n_out: int, code_dim: int):
        draw = Draw.of(key)
        self.first, self.code = Linear(draw, n_in, n_out), Linear(draw, code_dim, n_out)
        self.last = Linear(draw, n_out, n_out)
        self.around = Linear(draw, n_in, n_out) if n_in != n_out else None

    def __call__(self, x: Array, code: Array) -> Array:
        h = jax.nn.silu(self.first(x)) + self.code(jax.nn.silu(code))
        return jax.nn.silu(self.last(h)) + (self.around(x) if self.around else x)


class UMLP(eqx.Module):
    """SfBC's and QGPO's behaviour network: blocks that narrow, then widen, each seeing its mirror (Chen et al., 2023).

    x `[..., x_dim]`, t a scalar or `[...]`, cond `[..., cond_dim]` -> `[..., x_dim]`. The blocks see random Fourier
    features of t and `cond` as one code, `code_dim` wide; only x goes through them.
    """

    features: Fourier
    time: Linear
    cond: Linear | None
    code: MLP
    down: tuple[ConditionedBlock, ...]
    up: tuple[ConditionedBlock, ...]
    last: Linear

    def __init__(
        self,
        key: Key,
        x_dim: int,
        cond_dim: int = 0,
        *,
        widths: tuple[int, ...] = (512, 256, 128),
        embed_dim: int = 32,
        code_dim: int = 128,
        time_scale: float = 30.0,
    ):
        draw = Draw.of(key)
        self.features = Fourier(draw, embed_dim, scale=time_scale)
        self.time = Linear(draw, embed_dim, embed_dim)
        self.cond = Linear(draw, cond_dim, embed_dim) if cond_dim else None
        seen = (2 if cond_dim else 1) * embed_dim
        self.code = MLP(draw, seen, code_dim, hidden=(code_dim,), activation=jax.nn.silu)
        narrowing = itertools.pairwise((x_dim, *widths))
        self.down = tuple(ConditionedBlock(draw, a, b, code_dim) for a, b in narrowing)
        # After the middle one, which keeps its width, a block sees its mirror's output beside the one before it.
        mirrored = widths[::-1]
        widening = [(mirrored[0], mirrored[0]), *((2 * a, b) for a, b in itertools.pairwise(mirrored))]
        self.up = tuple(ConditionedBlock(draw, a, b, code_dim) for a, b in widening)
        self.last = Linear(draw, 2 * widths[0], x_dim)

    def __call__(self, x: Array, t: Array, cond: Condition = None) -> Array:
        told, seen = self.time(self.features(t)), flatten_condition(cond)
        if self.cond is not None and seen is not None:
            told = concatenate(told, jax.nn.silu(self.cond(seen)))
        h, code, past = x, self.code(told), []
        for block in self.down:
            h = block(h, code)
            past.append(h)
        for block in self.up:
            h = concatenate(block(h, code), past.pop())
        return self.last(h)


class ResidualMLP(eqx.Module):
    """SynthER's network: x and the time's embedding added, then wide blocks h + Linear(ReLU(h)) (Lu et al., 2023).

    x `[..., x_dim]`, t a scalar or `[...]`, cond `[..., cond_dim]` (beside x) -> `[..., x_dim]`. The time's
    embedding sees t itself and fixed random Fourier features of it.
    """

    time: TimeMLP
    project: Linear
    first: Linear
    blocks: tuple[Linear, ...]
    last: Linear

    def __init__(
        self,
        key: Key,
        x_dim: int,
        cond_dim: int = 0,
        *,
        width: int = 1024,
        blocks: int = 6,
        embed_dim: int = 128,
        fourier_dim: int = 16,
    ):
        draw = Draw.of(key)
        embed = Fourier(draw, fourier_dim)
        self.time = TimeMLP(draw, embed, embed_dim, embed_dim, activation=jax.nn.silu, raw=True)
        self.project = Linear(draw, x_dim + cond_dim, embed_dim)
        self.first = Linear(draw, embed_dim, width)
        self.blocks = tuple(Linear(draw, width, width) for _ in range(blocks))
        self.last = Linear(draw, width, x_dim)

    def __call__(self, x: Array, t: Array, cond: Condition = None) -> Array:
        h = self.first(self.project(concatenate(x, flatten_condition(cond))) + self.time(t))
        for block in self.blocks:
            h = h + block(jax.nn.relu(h))
        return self.last(jax.nn.relu(h))


def ensemble(make: Callable[[Array], Net], key: Array, n: int) -> Net:
    """`n` independent networks `make(key)` as one, with a leading axis of n on every array."""
    return jax.vmap(make)(jax.random.split(key, n))


def apply_ensemble(nets: Callable[..., Any], *inputs: Any) -> Any:
    """Every member of an ensemble on the same inputs: the output with a leading axis of members."""
    return jax.vmap(lambda net: net(*inputs))(nets)
