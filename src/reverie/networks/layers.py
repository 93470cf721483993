"""The layers that every backbone is made of: arrays in, arrays out, any leading batch shape.

Weights are stored input-first, `[in, out]`, so that a layer is `x @ weight + bias`.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

Initialiser = Callable[[Array, tuple[int, ...], int], tuple[Array, Array]]
"""(key, weight's shape, fan-in) -> (weight, bias)"""


def torch_default(key: Array, shape: tuple[int, ...], fan_in: int) -> tuple[Array, Array]:
    """PyTorch's default for its linear and convolution layers: weight and bias uniform on ±1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)
    weight_key, bias_key = jax.random.split(key)
    return (
        jax.random.uniform(weight_key, shape, minval=-bound, maxval=bound),
        jax.random.uniform(bias_key, shape[-1:], minval=-bound, maxval=bound),
    )


def xavier(key: Array, shape: tuple[int, ...], fan_in: int) -> tuple[Array, Array]:
    """Uniform on ±sqrt(6 / (fan_in + fan_out)), bias 0 (Glorot and Bengio, 2010). For linear layers."""
    bound = math.sqrt(6 / (fan_in + shape[-1]))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound), jnp.zeros(shape[-1:])


def zeros(key: Array, shape: tuple[int, ...], fan_in: int) -> tuple[Array, Array]:
    """Weight and bias 0: an output layer that starts silent."""
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

    def __init__(self, key: Array, n_in: int, n_out: int, *, bias: bool = True, init: Initialiser = torch_default):
        self.weight, initial_bias = init(key, (n_in, n_out), n_in)
        self.bias = initial_bias if bias else None

    def __call__(self, x: Array) -> Array:
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


class LayerNorm(eqx.Module):
    """Mean 0 and variance 1 over the last axis, then a learned scale and shift."""

    scale: Array
    shift: Array

    def __init__(self, dim: int):
        self.scale, self.shift = jnp.ones(dim), jnp.zeros(dim)

    def __call__(self, x: Array) -> Array:
        return standardise(x, axis=-1) * self.scale + self.shift


def standardise(x: Array, axis: int | tuple[int, ...], epsilon: float = 1e-5) -> Array:
    """Mean 0 and (biased) variance 1 over `axis`."""
    centred = x - x.mean(axis, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis, keepdims=True) + epsilon)


def parameter_count(module: eqx.Module) -> int:
    """How many numbers the module's arrays hold."""
    return sum(leaf.size for leaf in jax.tree.leaves(module))
