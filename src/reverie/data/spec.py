"""What a method must know about the data it was trained on, to act in the environment's units."""

import json
import zipfile
from dataclasses import field, fields
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset
from reverie.data.normalisers import KINDS, Normaliser
from reverie.errors import DataError, RunError


class Spec(eqx.Module):
    """Sizes, action bounds, normalisers, and rows that stay with the run. A pytree of arrays; the sizes are static."""

    observation_dim: int = eqx.field(static=True)
    action_dim: int = eqx.field(static=True)
    action_low: Array
    """Lowest action, in the environment's units: `[action_dim]`."""
    action_high: Array
    """Highest action: `[action_dim]`."""
    normalisers: dict[str, Normaliser]
    """By the name of what they normalise: `"observations"`, `"actions"`, `"rewards"`, ..."""
    kept: dict[str, Array] = field(default_factory=dict)
    """Rows of the data `[K, ...]`, in its units, that a method needs after its training too, such as states to start
    from."""

    @classmethod
    def fit(cls, data: Dataset, **kinds: type[Normaliser]) -> "Spec":
        """The data's sizes and bounds, with one normaliser fitted for every array named, for instance
        `Spec.fit(data, observations=Gaussian, actions=MinMax)`. An info's name (`goal=Gaussian`) does as well; an
        array of one number a step (`rewards=Gaussian`) counts as `[N, 1]`. Raises DataError where one is missing.
        """
        low, high = data.action_bounds
        normalisers = {key: kind.fit(_columns(data, key)) for key, kind in kinds.items()}
        return cls(data.observation_dim, data.action_dim, jnp.asarray(low), jnp.asarray(high), normalisers)

    def normalise(self, key: str, x: np.ndarray | Array) -> Array:
        """`x` `[..., d]` in network units; unchanged where nothing is fitted for `key`."""
        return self.normalisers[key](x) if key in self.normalisers else jnp.asarray(x)

    def denormalise(self, key: str, y: np.ndarray | Array) -> Array:
        """The inverse of `normalise`."""
        return self.normalisers[key].inverse(y) if key in self.normalisers else jnp.asarray(y)

    def save(self, path: str | Path) -> None:
        """Writes `PATH.json` and `PATH.npz`; `Spec.load` gives back the same bits."""
        plain = {
            "observation_dim": self.observation_dim,
            "action_dim": self.action_dim,
            "normalisers": {key: type(norm).__name__ for key, norm in self.normalisers.items()},
        }
        arrays = {"action_low": self.action_low, "action_high": self.action_high}
        for key, norm in self.normalisers.items():
            arrays |= {f"{key}/{name}": getattr(norm, name) for name in _names(type(norm))}
        arrays |= {f"kept/{key}": rows for key, rows in self.kept.items()}
        np.savez(f"{path}.npz", **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]
        Path(f"{path}.json").write_text(json.dumps(plain, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Spec":
        """Reads what `save` wrote. Raises RunError where a file is missing or unreadable."""
        try:
            plain = json.loads(Path(f"{path}.json").read_text())
            with np.load(f"{path}.npz", allow_pickle=False) as file:
                arrays = {key: jnp.asarray(file[key]) for key in file.files}
            normalisers = {
                key: KINDS[kind](*(arrays[f"{key}/{name}"] for name in _names(KINDS[kind])))
                for key, kind in plain["normalisers"].items()
            }
            kept = {key.removeprefix("kept/"): rows for key, rows in arrays.items() if key.startswith("kept/")}
            bounds = (arrays["action_low"], arrays["action_high"])
            return cls(plain["observation_dim"], plain["action_dim"], *bounds, normalisers, kept)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{str(path)!r} (.json and .npz) is no complete specification of a run's data ({error}); "
                f"restore both files from a copy of the run, or train it again."
            ) from error


def _names(kind: type[Normaliser]) -> list[str]:
    return [field.name for field in fields(kind)]


def _columns(data: Dataset, key: str) -> np.ndarray:
    arrays = {**data.infos, **data.arrays()}
    if key not in arrays:
        raise DataError(f"The data has no {key!r} to normalise; it has {', '.join(sorted(arrays))}.")
    array = arrays[key]
    return array[:, None] if array.ndim == 1 else array
