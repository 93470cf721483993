"""What normalisers are fitted from, of data that are seen a part at a time."""

from dataclasses import asdict, dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.normalisers import Gaussian, MinMax, Normaliser


@dataclass(frozen=True)
class Moments:
    """Of so many rows, `[d]` each."""

    rows: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    """Sums of the squared deviations from the mean."""

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Of `[N, ..., d]`, all axes but the last taken together; of `[N]` as one column."""
        x = x.reshape(-1, 1 if x.ndim == 1 else x.shape[-1])
        mean, squares = x.mean(axis=0, dtype=np.float64), len(x) * x.var(axis=0, dtype=np.float64)
        return cls(len(x), x.min(axis=0).astype(np.float64), x.max(axis=0).astype(np.float64), mean, squares)

    def merged(self, other: "Moments") -> "Moments":
        """Of both together (Chan, Golub & LeVeque 1983)."""
        rows, apart = self.rows + other.rows, other.mean - self.mean
        return Moments(
            rows,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + apart * (other.rows / rows),
            self.squares + other.squares + apart**2 * (self.rows * other.rows / rows),
        )

    def normaliser(self, kind: type[Normaliser]) -> Normaliser | None:
        """What `kind.fit` makes of the rows, up to rounding; None where that takes more than moments."""
        if kind is MinMax:
            return MinMax.of_range(self.low, self.high)
        if kind is Gaussian:
            spread = np.where(self.low == self.high, 0.0, np.sqrt(self.squares / self.rows))
            return Gaussian(_float32(self.mean), _float32(spread))
        return None

    def plain(self) -> dict[str, Any]:
        """For JSON, which keeps all bits."""
        return {name: value if name == "rows" else value.tolist() for name, value in asdict(self).items()}

    @classmethod
    def of_plain(cls, plain: dict[str, Any]) -> "Moments":
        """What `plain` gave. Raises KeyError, TypeError or ValueError where it is none of it."""
        rows, *columns = int(plain["rows"]), *(np.asarray(plain[name], np.float64) for name in COLUMNS)
        if rows < 1 or len({x.shape for x in columns}) > 1 or not all(np.isfinite(x).all() for x in columns):
            raise ValueError("the statistics are none")
        return cls(rows, *columns)


COLUMNS = ("low", "high", "mean", "squares")


def _float32(x: np.ndarray) -> Array:
    return jnp.asarray(x, jnp.float32)
