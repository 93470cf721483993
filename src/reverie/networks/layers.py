"""The layers that every backbone is made of: arrays in, arrays out, any leading batch shape.

Weights are stored input-first, `[in, out]`, so that a layer is `x @ weight + bias`.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

Activation = Callable[[Array], Array]


class Draw:
    """Uniform numbers on (-1, 1) from one key, handed out in order: `draw(shape)`.

    A network takes its initial weights from a few long vectors instead of from one generator per layer, because
    XLA compiles each generator anew: for Diffuser's U-Net a minute of compilation becomes two seconds.
    """

    def __init__(self, key: Array):
        self.key, self.numbers, self.used = key, jnp.zeros(0), 0

    @classmethod
    def of(cls, key: "Array | Draw") -> "Draw":
        return key if isinstance(key, Draw) else cls(key)

    def __call__(self, shape: tuple[int, ...]) -> Array:
        count = math.prod(shape)
        if self.used + count > len(self.numbers):
            size = max(2**14, 4 * len(self.numbers), count)
            self.key, key = jax.random.split(self.key)
            self.numbers = jax.random.uniform(key, (size,), minval=math.nextafter(-1, 0), maxval=1)
            self.used = 0
        start, self.used = self.used, self.used + count
        return jax.lax.dynamic_slice_in_dim(self.numbers, start, count).reshape(shape)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Standard normal numbers."""
        return math.sqrt(2) * jax.scipy.special.erfinv(self(shape))


Key = Array | Draw
"""What a constructor takes its random numbers from. Users give a key; a network shares one Draw among its layers."""

Initialiser = Callable[[Draw, tuple[int, ...], int], tuple[Array, Array]]
"""(draw, weight's shape, fan-in) -> (weight, bias)"""


def torch_default(draw: Draw, shape: tuple[int, ...], fan_in: int) -> tuple[Array, Array]:
    """PyTorch's default for linear layers and convolutions: weight and bias uniform on ±1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    return bound * draw(shape), bound * draw(shape[-1:])


def xavier(draw: Draw, shape: tuple[int, ...], fan_in: int) -> tuple[Array, Array]:
    """Uniform on ±sqrt(6 / (fan_in + fan_out)), bias 0 (Glorot and Bengio, 2010). For linear layers."""
    return math.sqrt(6 / (fan_in + shape[-1])) * draw(shape), jnp.zeros(shape[-1:])


def orthogonal(gain: float) -> Initialiser:
    """Orthogonal rows or columns, whichever are fewer, of length `gain`; bias 0 (Saxe et al., 2014). For linear
    layers."""

    def init(draw: Draw, shape: tuple[int, ...], fan_in: int) -> tuple[Array, Array]:
        tall = draw.normal((max(shape), min(shape)))
        q, r = jnp.linalg.qr(tall)
        q = q * jnp.sign(jnp.diagonal(r))  # without which the decomposition's own signs would stay
        return gain * (q if shape[0] >= shape[1] else q.T), jnp.zeros(shape[-1:])

    return init


def zeros(draw: Draw, shape: tuple[int, ...], fan_in: int) -> tuple[Array, Array]:
    """Weight and bias 0: a layer that starts silent."""
    return jnp.zeros(shape), jnp.zeros(shape[-1:])


def mish(x: Array) -> Array:
    """x tanh(softplus(x)) (Misra, 2019), at the price of one exponential.

    With n = exp(x), tanh(log(1 + n)) = (n² + 2n) / (n² + 2n + 2). Beyond x = 20 that is 1 to the last bit of a
    double, so n need not grow, and overflow, any further.
    """
    n = jnp.exp(jnp.minimum(x, 20.0))
    w = n * (n + 2)
    return x * (w / (w + 2))


class Linear(eqx.Module):
    """`[..., n_in] -> [..., n_out]`."""

    weight: Array
    bias: Array | None

    def __init__(self, key: Key, n_in: int, n_out: int, *, bias: bool = True, init: Initialiser = torch_default):
        self.weight, initial_bias = init(Draw.of(key), (n_in, n_out), n_in)
        self.bias = initial_bias if bias else None

    def __call__(self, x: Array) -> Array:
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


def by_rows(layer: Callable[[Array], Array], x: Array) -> Array:
    """`[..., n_in] -> [..., n_out]` by a layer of rows `[N, n_in]`.

    With more axes the gradient of a matrix product is 2.5 times slower on a CPU.
    """
    y = layer(x.reshape(-1, x.shape[-1]))
    return y.reshape(*x.shape[:-1], y.shape[-1])


class LayerNorm(eqx.Module):
    """Mean 0 and variance 1 over the last axis, then a learned scale and shift."""

    scale: Array
    shift: Array

    def __init__(self, dim: int):
        self.scale, self.shift = jnp.ones(dim), jnp.zeros(dim)

    def __call__(self, x: Array) -> Array:
        return standardise(x) * self.scale + self.shift


def standardise(x: Array) -> Array:
    """Mean 0 and (biased) variance 1 over the last axis, with PyTorch's epsilon of 1e-5."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-5)


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """Each entry is 0 with probability `rate`, the others grow to keep the mean. No key: x itself."""
    if key is None or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def concatenate(*parts: Array | None) -> Array:
    """The vectors side by side, each repeated over the leading shape they share; None is left out."""
    present = [part for part in parts if part is not None]
    batch = jnp.broadcast_shapes(*(part.shape[:-1] for part in present))
    return jnp.concatenate([jnp.broadcast_to(part, (*batch, part.shape[-1])) for part in present], -1)


def parameter_count(module: Any) -> int:
    """How many numbers the arrays of `module` hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(module))
