"""Offline data on the host: whole episodes of numpy arrays, checked once, when they come in."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.data import checking, joining, writers
from reverie.data.checking import Attribute, frozen
from reverie.data.fields import Field, Space, Tree, describe, dimension, field_of, flatten, space_of
from reverie.errors import DataError

_PER_STEP = ("observations", "actions", "rewards", "costs", "next_observations", "terminals", "timeouts", "ends")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """N steps, whole episodes laid one after another. Build one with `from_arrays`, which checks everything.

    An episode ends where `terminals` or `timeouts` is true. A terminal is the end of the task (nothing comes
    after it, so nothing is bootstrapped); a timeout is only a cut. A row may carry both; it then counts as a
    terminal. Where the source says itself where its episodes end (`ends`), they end there alone: in OGBench's single
    tasks, say, a trajectory goes on after the task is solved. The arrays are read-only.

    - `observations`: one array, or a dictionary of arrays by name, each one of these: a vector float32 `[N, d]`;
      several agents' vectors float32 `[N, A, d]`; an image uint8 `[N, H, W, C]` of 1 to 4 channels; token ids int32
      `[N, L]` (in a dictionary only)
    - `actions`: float32 `[N, action_dim]`, or `[N, A, action_dim]` of A agents, in the environment's units
    - `terminals`, `timeouts`: bool `[N]`
    - `ends`: bool `[N]`, True at every episode's last row; None where that is where `terminals` or `timeouts` is
    - `terminals_known`: False where the source had no terminals at all; then those here are all False
    - `rewards`, `costs`: float32 `[N]`, or None
    - `next_observations`: as the observations, or None
    - `infos`: any further arrays `[N, ...]`, such as `"goal"`
    - `action_low`, `action_high`: float32, of one action's shape, or None where the source does not say
    - `attributes`: what the source tells about itself (name, environment, ...), plain values
    """

    observations: Tree
    actions: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    timeouts: NDArray[np.bool_]
    rewards: NDArray[np.float32] | None = None
    next_observations: Tree | None = None
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    action_low: NDArray[np.float32] | None = None
    action_high: NDArray[np.float32] | None = None
    terminals_known: bool = True
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    costs: NDArray[np.float32] | None = None
    ends: NDArray[np.bool_] | None = None

    @classmethod
    def from_arrays(
        cls,
        observations: ArrayLike | Mapping[str, ArrayLike],
        actions: ArrayLike,
        rewards: ArrayLike | None = None,
        terminals: ArrayLike | None = None,
        timeouts: ArrayLike | None = None,
        *,
        next_observations: ArrayLike | Mapping[str, ArrayLike] | None = None,
        costs: ArrayLike | None = None,
        ends: ArrayLike | None = None,
        infos: Mapping[str, ArrayLike] | None = None,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> "Dataset":
        """Checks and casts; arrays that already have the right type are not copied.

        Observations that are one array of numbers are cast to float32, images (uint8 of four axes) stay uint8; so it
        is by name in a dictionary, where integers `[N, L]` become token ids. `terminals` and `timeouts` hold 0 and 1
        (or booleans); one that is left out is all false, and methods that must know where the task ends refuse data
        without terminals. `ends`, where given, says alone where episodes end; the timeouts are then its rows that are
        no terminals. A trailing unfinished episode is kept and counts as cut by a timeout. The action bounds are
        scalars, `[action_dim]` or of one action's shape, both or neither; actions are checked against them.

        Raises DataError, naming key, row and column: discrete (integer) actions, a wrong shape, lengths or agents
        that differ, an empty array, a type that is not a number, NaN or infinity, images that are not uint8 with
        channels last, an action outside its bounds, no finished episode at all.
        """
        observed = checking.observations("observations", observations)
        steps = len(next(iter(flatten("observations", observed).values())))
        acted = checking.same_length(checking.actions(actions), "actions", steps)
        checking.check_agents(observed, acted)
        terminal, timeout = (
            checking.flags(key, value, steps) for key, value in (("terminals", terminals), ("timeouts", timeouts))
        )
        ended = None
        if ends is not None:
            ended = checking.closed(np.zeros(steps, bool), checking.flags("ends", ends, steps))
            timeout = ended & ~terminal
        successors = None
        if next_observations is not None:
            successors = checking.observations("next_observations", next_observations)
            for key, array in flatten("next_observations", successors).items():
                checking.same_length(array, key, steps)
            checking.check_successors(successors, observed)
        low, high = checking.bounds(action_low, action_high, acted)
        return cls(
            observations=observed,
            actions=frozen(acted),
            terminals=frozen(terminal),
            timeouts=frozen(timeout if ended is not None else checking.closed(terminal, timeout)),
            ends=None if ended is None else frozen(ended),
            rewards=checking.scalars("rewards", rewards, steps),
            costs=checking.scalars("costs", costs, steps),
            next_observations=successors,
            infos={key: checking.info(key, value, steps) for key, value in (infos or {}).items()},
            action_low=low,
            action_high=high,
            terminals_known=terminals is not None,
            attributes={key: checking.attribute(key, value) for key, value in (attributes or {}).items()},
        )

    def __len__(self) -> int:
        return len(self.actions)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.attributes.get('name', 'unnamed')}: {len(self)} steps, {len(self.episodes)} episodes, "
            f"observations {_size(self.observation_space)}, actions {_size(self.action_space)})"
        )

    @property
    def observation_space(self) -> Space:
        """What one observation is: a Field, or a dictionary of Fields by name."""
        return space_of(self.observations)

    @property
    def action_space(self) -> Field:
        return field_of(self.actions)

    @property
    def observation_dim(self) -> int:
        """Of vectors. Raises DataError where the observations are anything else."""
        return dimension("observations", self.observation_space)

    @property
    def action_dim(self) -> int:
        """Of vectors. Raises DataError where the actions are several agents'."""
        return dimension("actions", self.action_space)

    @property
    def last(self) -> NDArray[np.bool_]:
        """True at every episode's last row: bool `[N]`."""
        return self.terminals | self.timeouts if self.ends is None else self.ends

    @cached_property
    def episodes(self) -> NDArray[np.int64]:
        """Every episode's first row and the row after its last: int64 `[E, 2]`."""
        stops = np.flatnonzero(self.last) + 1
        return np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=1)

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Every episode's undiscounted return: float64 `[E]`. Raises DataError where there are no rewards."""
        return self._per_episode(self.require_rewards())

    def _per_episode(self, values: np.ndarray) -> NDArray[np.float64]:
        """Their sums: float64 `[E]`."""
        return np.add.reduceat(values.astype(np.float64), self.episodes[:, 0])

    @property
    def action_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest action, each float32 of one action's shape.

        The declared bounds; without them -1 and 1 where the data keep to these, else the data's own extremes.
        """
        if self.action_low is not None and self.action_high is not None:
            return self.action_low, self.action_high
        low, high = self.actions.min(axis=0), self.actions.max(axis=0)
        if low.min() >= -1 and high.max() <= 1:
            return np.full_like(low, -1), np.full_like(high, 1)
        return low, high

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all arrays with their names, types and shapes (hex); attributes do not count."""
        digest = hashlib.sha256()
        for key, array in sorted(self.arrays().items()):
            digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array that is there, by name; infos as `infos/KEY`, and a dictionary's as `observations/NAME`."""
        named = {
            **flatten("observations", self.observations),
            "actions": self.actions,
            "rewards": self.rewards,
            "costs": self.costs,
            **flatten("next_observations", self.next_observations),
            "terminals": self.terminals,
            "timeouts": self.timeouts,
            "ends": self.ends,
            "action_low": self.action_low,
            "action_high": self.action_high,
        }
        named |= {f"infos/{key}": value for key, value in self.infos.items()}
        return {key: value for key, value in named.items() if value is not None}

    def require_rewards(self) -> NDArray[np.float32]:
        """The rewards `[N]`; raises DataError where there are none."""
        return self._require("rewards")

    def require_costs(self) -> NDArray[np.float32]:
        """The costs `[N]`; raises DataError where there are none."""
        return self._require("costs")

    def _require(self, key: str) -> NDArray[np.float32]:
        if (values := getattr(self, key)) is None:
            name = self.attributes.get("name", "this data set")
            raise DataError(f"{name!r} has no {key}; choose a method that needs none, or give {key} to from_arrays.")
        return values

    def require_terminals(self) -> NDArray[np.bool_]:
        """The terminals `[N]`; raises DataError where the source had none."""
        if not self.terminals_known:
            name = self.attributes.get("name", "this data set")
            raise DataError(
                f"{name!r} has no terminals, without which a value cannot tell the end of the task from a cut; give "
                "'terminals' (all False for a task that never ends), or choose a method that needs none, such as bc."
            )
        return self.terminals

    def take_episodes(self, indices: Sequence[int] | NDArray[np.integer]) -> "Dataset":
        """A data set of these episodes, in this order. Raises DataError for an index that is not there."""
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        count = len(self.episodes)
        if chosen.size == 0:
            raise DataError("No episode was chosen; give at least one index.")
        outside = chosen[(chosen < 0) | (chosen >= count)]
        if outside.size:
            raise DataError(f"There is no episode {outside[0]}; the data set has {count}, counted from 0.")
        return self._take(np.concatenate([np.arange(start, stop) for start, stop in self.episodes[chosen]]))

    def with_next_observations(self) -> "Dataset":
        """This data where it has `next_observations`; else its steps whose successor is known, with it.

        The following row is the successor. The last step of an episode that was cut by a timeout has none and is left
        out, as in D4RL; a terminal's last step stays, since what follows a terminal is never used (its own
        observation stands there). Raises DataError where no step is left.
        """
        if self.next_observations is not None:
            return self
        kept = self.terminals | ~self.last
        if not kept.any():
            raise DataError(
                "Every episode is one step cut by a timeout, so no step has a successor; give 'next_observations'."
            )
        rows = np.flatnonzero(kept)
        successors = np.where(self.last, np.arange(len(self)), np.arange(len(self)) + 1)[rows]
        # Where the row after was left out, its episode now ends one step earlier.
        cut = self.last[rows] | ~kept[successors]
        taken = replace(self._take(rows), next_observations=_rows(self.observations, successors))
        if self.ends is not None:
            return replace(taken, ends=frozen(cut), timeouts=frozen(cut & ~taken.terminals))
        return replace(taken, timeouts=frozen(self.timeouts[rows] | (cut & ~taken.terminals)))

    def _take(self, rows: NDArray[np.integer]) -> "Dataset":
        taken = {key: _rows(getattr(self, key), rows) for key in _PER_STEP}
        return replace(self, **taken, infos={key: _rows(value, rows) for key, value in self.infos.items()})

    def save(self, target: str) -> None:
        """Writes to `"d4rl:PATH.hdf5"` or `"ogbench:PATH.npz"`, replaced in one step where it exists, or to a new
        `"minari:ID"` or `"parquet:FOLDER"`.

        Raises DataError for an unknown scheme or where the target cannot hold this data.
        """
        writers.save(self, target)

    def summary(self) -> dict[str, Any]:
        """Plain values that describe the data: sizes, returns, lengths, ends, action range, attributes.

        Observations other than vectors have `observations` (kind, type and shape, by name) for `observation_dim`.
        """
        lengths = self.episodes[:, 1] - self.episodes[:, 0]
        return {
            "steps": len(self),
            "episodes": len(lengths),
            **_sizes("observation", self.observation_space),
            **_sizes("action", self.action_space),
            "return": None if self.rewards is None else _spread(self.returns),
            **({} if self.costs is None else {"cost": _spread(self._per_episode(self.costs))}),
            "episode_length": _spread(lengths),
            "terminals": int(self.terminals.sum()),
            "timeouts": int(self.timeouts.sum()),
            "action_range": [float(self.actions.min()), float(self.actions.max())],
            "action_bounds": [bound.tolist() for bound in self.action_bounds],
            "next_observations": self.next_observations is not None,
            "infos": {key: list(value.shape[1:]) for key, value in self.infos.items()},
            "attributes": dict(self.attributes),
        }


def concatenate(*datasets: Dataset) -> Dataset:
    """The episodes of the first, then those of the second, and so on: real data and synthetic, or several logs.

    `next_observations` are derived where only some have them (see `Dataset.with_next_observations`). Infos that all
    have, alike in shape, are kept, and attributes in which all agree; names and sources are joined by "+". Terminals
    count as known where all know them; bounds that some declare hold for all.

    Raises DataError, with both names, where the observations' or actions' shapes, the declared bounds or the numbered
    tasks differ, where only some have rewards or costs, and where actions lie outside another's declared bounds.
    """
    if not datasets:
        raise DataError("There is nothing to concatenate; give at least one data set.")
    declared = next((data for data in datasets if data.action_low is not None), datasets[0])
    for data in datasets:
        joining.check_alike(datasets[0], data)
        joining.check_bounds(declared, data)
    if any(data.next_observations is not None for data in datasets):
        datasets = tuple(data.with_next_observations() for data in datasets)
    if any(data.ends is not None for data in datasets):
        datasets = tuple(replace(data, ends=frozen(data.last)) for data in datasets)
    return Dataset(
        **{key: jax.tree.map(joining.concatenated, *(getattr(data, key) for data in datasets)) for key in _PER_STEP},
        infos=joining.shared([data.infos for data in datasets]),
        action_low=declared.action_low,
        action_high=declared.action_high,
        terminals_known=all(data.terminals_known for data in datasets),
        attributes=joining.agreed([data.attributes for data in datasets]),
    )


def _rows(tree: Tree, rows: NDArray[np.integer]) -> Tree:
    """Of every array there is; None stays None."""
    return jax.tree.map(lambda array: frozen(array[rows]), tree)


def _size(space: Space) -> str:
    return str(space.shape[0]) if isinstance(space, Field) and space.kind == "vector" else describe(space)


def _sizes(what: str, space: Space) -> dict[str, Any]:
    if isinstance(space, Field):
        return {f"{what}_dim": space.shape[0]} if space.kind == "vector" else {f"{what}s": str(space)}
    return {f"{what}s": {name: str(field) for name, field in space.items()}}


def _spread(values: np.ndarray) -> dict[str, float]:
    return {name: float(getattr(np, name)(values)) for name in ("mean", "median", "min", "max")}
