"""Per-dimension maps from data to a network's units and back.

Every normaliser is fitted on an array `[N, d]` of valid steps, holds arrays only, works on `[..., d]`, and can be
jitted, vmapped and differentiated. A dimension that is constant in the data maps to 0, and whatever a network makes of
it comes back as that constant.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


class Normaliser(eqx.Module):
    """`norm(x)` and `norm.inverse(y)`, on `[..., d]`."""

    @classmethod
    @abstractmethod
    def fit(cls, x: np.ndarray) -> "Normaliser":
        """Fitted on `x`: `[N, d]`."""

    @abstractmethod
    def __call__(self, x: ArrayLike) -> Array:
        """Data to network units: `[..., d]`."""

    @abstractmethod
    def inverse(self, y: ArrayLike) -> Array:
        """Network units to data: `[..., d]`."""


class Identity(Normaliser):
    """Leaves everything as it is."""

    @classmethod
    def fit(cls, x: np.ndarray) -> "Identity":
        return cls()

    def __call__(self, x: ArrayLike) -> Array:
        return jnp.asarray(x)

    def inverse(self, y: ArrayLike) -> Array:
        return jnp.asarray(y)


class Gaussian(Normaliser):
    """Mean 0 and standard deviation 1 in every dimension (population statistics)."""

    mean: Array
    std: Array
    """0 where the data is constant."""

    @classmethod
    def fit(cls, x: np.ndarray) -> "Gaussian":
        # A constant's standard deviation in floating point need not be exactly 0.
        constant = x.min(axis=0) == x.max(axis=0)
        mean = x.mean(axis=0, dtype=np.float64)
        std = np.where(constant, 0.0, x.std(axis=0, dtype=np.float64))
        return cls(_float32(mean), _float32(std))

    def __call__(self, x: ArrayLike) -> Array:
        return (jnp.asarray(x) - self.mean) / jnp.where(self.std > 0, self.std, 1)

    def inverse(self, y: ArrayLike) -> Array:
        return jnp.asarray(y) * self.std + self.mean


class MinMax(Normaliser):
    """The data's range in every dimension to `[-1, 1]`; what lies outside the range is not clipped.

    A dimension whose range in the data is below `LEAST` is centred and left unscaled, as in Diffusion Policy's released
    code (Chi et al. 2023); its `low` and `high` are 1 from its middle. A sensor that has been at rest would else be
    hundreds of ranges away once it moves. That code treats constants so as well, which here stay constants. Ranges that
    are given and not fitted, such as actions' bounds, are as they are given.
    """

    low: Array
    high: Array

    LEAST = 1e-4

    @classmethod
    def fit(cls, x: np.ndarray) -> "MinMax":
        return cls.of_range(x.min(axis=0), x.max(axis=0))

    @classmethod
    def of_range(cls, low: np.ndarray, high: np.ndarray) -> "MinMax":
        """Fitted on data from `low` to `high`, `[d]` each."""
        low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
        narrow, middle = (low < high) & (high - low < cls.LEAST), (low + high) / 2
        return cls(_float32(np.where(narrow, middle - 1, low)), _float32(np.where(narrow, middle + 1, high)))

    def __call__(self, x: ArrayLike) -> Array:
        span = self.high - self.low
        unit = (jnp.asarray(x) - self.low) / jnp.where(span > 0, span, 1)
        return jnp.where(span > 0, 2 * unit - 1, 0)

    def inverse(self, y: ArrayLike) -> Array:
        return self.low + (jnp.asarray(y) + 1) / 2 * (self.high - self.low)


class CDF(Normaliser):
    """Uniform on `[-1, 1]` in every dimension, by the empirical distribution function.

    The function is piecewise linear through at most `KNOTS` of the data's values, evenly spread in probability
    (the smallest and the largest among them). A value that occurs often takes the middle of its jump, so that the
    map stays invertible on clipped or discrete dimensions. Beyond the data's range it is constant: `norm` gives
    -1 or 1, and `inverse` gives the smallest or largest value. After Decision Diffuser (Ajay et al. 2023).
    """

    values: Array
    """Knots in data units, increasing, the last one repeated as padding: `[d, K]`."""
    levels: Array
    """The knots' images in [-1, 1]: `[d, K]`."""

    KNOTS = 2048

    @classmethod
    def fit(cls, x: np.ndarray) -> "CDF":
        knots = [_knots(np.asarray(column, np.float32), cls.KNOTS) for column in x.T]
        longest = max(len(values) for values, _ in knots)
        values, levels = (
            np.stack([np.pad(pair[i], (0, longest - len(pair[i])), mode="edge") for pair in knots]) for i in (0, 1)
        )
        return cls(jnp.asarray(values), jnp.asarray(levels))

    def __call__(self, x: ArrayLike) -> Array:
        return _interpolate(jnp.asarray(x), self.values, self.levels)

    def inverse(self, y: ArrayLike) -> Array:
        return _interpolate(jnp.asarray(y), self.levels, self.values)


KINDS: dict[str, type[Normaliser]] = {kind.__name__: kind for kind in (Identity, Gaussian, MinMax, CDF)}


def _float32(x: np.ndarray) -> Array:
    return jnp.asarray(np.asarray(x, dtype=np.float32))


def first_apart(one: Any, other: Any) -> int | None:
    """The first column that two normalisers do not map alike; None where there is none."""
    mine, theirs = ([np.asarray(leaf) for leaf in jax.tree.leaves(each)] for each in (one, other))
    if len(mine) != len(theirs):
        return 0
    pairs = (enumerate(zip(*leaves, strict=True)) for leaves in zip(mine, theirs, strict=True))
    return min((column for each in pairs for column, (a, b) in each if not np.array_equal(a, b)), default=None)


def _knots(column: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    values, counts = np.unique(column, return_counts=True)
    if len(values) == 1:
        return values, np.zeros(1, np.float32)
    middles = np.cumsum(counts) - counts / 2
    levels = (2 * (middles - middles[0]) / (middles[-1] - middles[0]) - 1).astype(np.float32)
    if len(values) > most:
        nearest = np.searchsorted(levels, np.linspace(-1, 1, most, dtype=np.float32))
        chosen = np.unique(np.clip(nearest, 0, len(values) - 1))
        values, levels = values[chosen], levels[chosen]
    return values, levels


def _interpolate(x: Array, knots: Array, images: Array) -> Array:
    return jax.vmap(jnp.interp, in_axes=(-1, 0, 0), out_axes=-1)(x, knots, images)
