"""What a method must know about the data it was trained on, to act in the environment's units."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset
from reverie.data.fields import Field, Space, Tree, dimension, field_of, flatten, unflatten, vector
from reverie.data.normalisers import KINDS, Normaliser
from reverie.errors import DataError, RunError

Fields: TypeAlias = Field | tuple[tuple[str, Field], ...]
"""One Field, or a dictionary's as pairs sorted by name."""


def _fields(given: int | Space | Fields) -> Fields:
    """Hashable, from a vector's length or anything that says the same."""
    if isinstance(given, int | np.integer):
        return vector(int(given))
    return given if isinstance(given, Field) else tuple(sorted(dict(given).items()))


class Spec(eqx.Module):
    """What observations and actions are, action bounds, normalisers, and rows that stay with the run. A pytree of
    arrays; the descriptions are static."""

    observation: Fields = eqx.field(static=True, converter=_fields)
    """May be given as a vector's length, a Field, or a dictionary of Fields."""
    action: Field = eqx.field(static=True, converter=_fields)
    action_low: Array
    """Lowest action, in the environment's units, of the shape `action.shape`."""
    action_high: Array
    """Highest action."""
    normalisers: dict[str, Normaliser]
    """By the name of what they normalise: `"observations"` (of a dictionary `"observations/NAME"`), `"actions"`,
    `"rewards"`, ..."""
    kept: dict[str, Tree] = field(default_factory=dict)
    """Rows of the data `[K, ...]`, in its units, that a method needs after its training too, such as states to start
    from."""

    @property
    def observation_space(self) -> Space:
        """As `Dataset.observation_space`."""
        return self.observation if isinstance(self.observation, Field) else dict(self.observation)

    @property
    def observation_dim(self) -> int:
        """Of vectors. Raises DataError where the observations are anything else."""
        return dimension("observations", self.observation_space)

    @property
    def action_dim(self) -> int:
        """Of vectors. Raises DataError where the actions are several agents'."""
        return dimension("actions", self.action)

    @classmethod
    def fit(cls, data: Dataset, **kinds: type[Normaliser]) -> "Spec":
        """The data's sizes and bounds, with one normaliser fitted for every array named, for instance
        `Spec.fit(data, observations=Gaussian, actions=MinMax)`. An info's name (`goal=Gaussian`) does as well; an
        array of one number a step (`rewards=Gaussian`) counts as `[N, 1]`.

        Of a dictionary every vector gets its own. Several agents share their statistics. Images and token ids are
        left as they are. Raises DataError where an array is missing.
        """
        low, high = data.action_bounds
        normalisers = {
            name: kind.fit(found) for key, kind in kinds.items() for name, found in columns(data, key).items()
        }
        return cls(_fields(data.observation_space), data.action_space, jnp.asarray(low), jnp.asarray(high), normalisers)

    def normalise(self, key: str, x: Tree) -> Tree:
        """`x` `[..., d]` in network units; unchanged where nothing is fitted for `key`. A dictionary is mapped entry
        by entry; images stay uint8, which a network's encoder scales."""
        return self._mapped(key, x, lambda normaliser, value: normaliser(value))

    def denormalise(self, key: str, y: Tree) -> Tree:
        """The inverse of `normalise`."""
        return self._mapped(key, y, lambda normaliser, value: normaliser.inverse(value))

    def blank(self, n: int) -> Tree:
        """Observations of `n` environments that are all zero, as the data has them: to evaluate shapes with."""
        space = self.observation_space
        if isinstance(space, Field):
            return jnp.zeros((n, *space.shape), space.dtype)
        return {name: jnp.zeros((n, *each.shape), each.dtype) for name, each in space.items()}

    def _mapped(self, key: str, x: Tree, function: Callable[[Normaliser, Any], Array]) -> Tree:
        if isinstance(x, Mapping):
            return {name: self._mapped(f"{key}/{name}", value, function) for name, value in x.items()}
        return function(self.normalisers[key], x) if key in self.normalisers else jnp.asarray(x)

    def parts(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """All of it as what JSON holds, and arrays by name; `of_parts` puts them together again."""
        plain = {
            "observation": _plain(self.observation_space),
            "action": _plain(self.action),
            "normalisers": {key: type(norm).__name__ for key, norm in self.normalisers.items()},
        }
        arrays = {"action_low": self.action_low, "action_high": self.action_high}
        for key, norm in self.normalisers.items():
            arrays |= {f"{key}/{name}": getattr(norm, name) for name in _names(type(norm))}
        for key, rows in self.kept.items():
            arrays |= flatten(f"kept/{key}", rows)
        return plain, arrays

    @classmethod
    def of_parts(cls, plain: Mapping[str, Any], arrays: Mapping[str, Any]) -> "Spec":
        """What `parts` gave. Raises KeyError or ValueError where something is missing or is none of it."""
        arrays = jax.device_put(dict(arrays))
        normalisers = {
            key: KINDS[kind](*(arrays[f"{key}/{name}"] for name in _names(KINDS[kind])))
            for key, kind in plain["normalisers"].items()
        }
        prefix = "kept/"
        kept = unflatten({key.removeprefix(prefix): x for key, x in arrays.items() if key.startswith(prefix)})
        observation, action = (_described(plain, what) for what in ("observation", "action"))
        return cls(observation, action, arrays["action_low"], arrays["action_high"], normalisers, kept)

    def save(self, path: str | Path) -> None:
        """Writes `PATH.json` and `PATH.npz`; `Spec.load` gives back the same bits."""
        plain, arrays = self.parts()
        np.savez(f"{path}.npz", **{key: np.asarray(value) for key, value in arrays.items()})  # type: ignore[arg-type]
        Path(f"{path}.json").write_text(json.dumps(plain, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Spec":
        """Reads what `save` wrote. Raises RunError where a file is missing or unreadable."""
        try:
            plain = json.loads(Path(f"{path}.json").read_text())
            with np.load(f"{path}.npz", allow_pickle=False) as file:
                return cls.of_parts(plain, dict(file))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{str(path)!r} (.json and .npz) is no complete specification of a run's data ({error}); "
                f"restore both files from a copy of the run, or train it again."
            ) from error


def _plain(space: Space) -> dict[str, Any]:
    """For JSON: a Field's parts, or those of a dictionary's Fields under `"entries"`."""
    if isinstance(space, Field):
        return space._asdict()
    return {"entries": {name: _plain(each) for name, each in space.items()}}


def _described(plain: Mapping[str, Any], what: str) -> Any:
    """What `_plain` made. Runs of before there were Fields have `observation_dim` and `action_dim`."""
    return _parsed(plain[what]) if what in plain else vector(plain[f"{what}_dim"])


def _parsed(plain: Mapping[str, Any]) -> Space:
    if "entries" in plain:
        return {name: _field(each) for name, each in plain["entries"].items()}
    return _field(plain)


def _field(plain: Mapping[str, Any]) -> Field:
    return Field(tuple(plain["shape"]), plain["dtype"], plain["kind"])


def columns(data: Dataset, key: str) -> dict[str, np.ndarray]:
    """The arrays that `key` names and that are normalised, by their names in a specification: `[M, d]` each."""
    trees = (flatten(each, getattr(data, each)) for each in ("observations", "next_observations", "actions"))
    observed = {name: x for tree in trees for name, x in tree.items() if x is not None}
    named = {name: x for name, x in observed.items() if name == key or name.startswith(f"{key}/")}
    if named:
        return {
            name: x.reshape(-1, x.shape[-1]) for name, x in named.items() if field_of(x).kind in ("vector", "agents")
        }
    arrays = {**data.infos, **data.arrays()}
    if key not in arrays:
        raise DataError(f"The data has no {key!r} to normalise; it has {', '.join(sorted(arrays))}.")
    array = arrays[key]
    return {key: array[:, None] if array.ndim == 1 else array}


def _names(kind: type[Normaliser]) -> list[str]:
    return [field.name for field in fields(kind)]
