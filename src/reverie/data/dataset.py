"""Offline data on the host: whole episodes of numpy arrays, checked once, when they come in."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.errors import DataError

Attribute = str | int | float | bool | list
_PER_STEP = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """N steps, whole episodes laid one after another. Build one with `from_arrays`, which checks everything.

    An episode ends where `terminals` or `timeouts` is true. A terminal is the end of the task (nothing comes
    after it, so nothing is bootstrapped); a timeout is only a cut. A row may carry both; it then counts as a
    terminal. The arrays are read-only.

    - `observations`: float32 `[N, observation_dim]`
    - `actions`: float32 `[N, action_dim]`, in the environment's units
    - `terminals`, `timeouts`: bool `[N]`
    - `terminals_known`: False where the source had no terminals at all; then those here are all False
    - `rewards`: float32 `[N]`, or None
    - `next_observations`: float32 `[N, observation_dim]`, or None
    - `infos`: any further arrays `[N, ...]`, such as `"goal"`
    - `action_low`, `action_high`: float32 `[action_dim]`, or None where the source does not say
    - `attributes`: what the source tells about itself (name, environment, ...), plain values
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    terminals: NDArray[np.bool_]
    timeouts: NDArray[np.bool_]
    rewards: NDArray[np.float32] | None = None
    next_observations: NDArray[np.float32] | None = None
    infos: Mapping[str, np.ndarray] = field(default_factory=dict)
    action_low: NDArray[np.float32] | None = None
    action_high: NDArray[np.float32] | None = None
    terminals_known: bool = True
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike | None = None,
        terminals: ArrayLike | None = None,
        timeouts: ArrayLike | None = None,
        *,
        next_observations: ArrayLike | None = None,
        infos: Mapping[str, ArrayLike] | None = None,
        action_low: ArrayLike | None = None,
        action_high: ArrayLike | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> "Dataset":
        """Checks and casts; arrays that already have the right type are not copied.

        `terminals` and `timeouts` hold 0 and 1 (or booleans); one that is left out is all false, and methods that
        must know where the task ends refuse data without terminals. A trailing unfinished episode is kept and counts
        as cut by a timeout. The action bounds are scalars or `[action_dim]`, both or neither; actions are checked
        against them.

        Raises DataError, naming key, row and column: discrete (integer) actions, a wrong shape, lengths that differ,
        an empty array, a type that is not a number, NaN or infinity, an action outside its bounds, no finished
        episode at all.
        """
        observed = _floats("observations", observations, 2)
        steps = len(observed)
        _check_continuous(actions)
        acted = _same_length(_floats("actions", actions, 2), "actions", steps)
        terminal, timeout = _flags("terminals", terminals, steps), _flags("timeouts", timeouts, steps)
        rewarded = None
        if rewards is not None:
            rewarded = _same_length(_floats("rewards", rewards, 1), "rewards", steps)
        following = None
        if next_observations is not None:
            following = _same_length(_floats("next_observations", next_observations, 2), "next_observations", steps)
            _check_width(following, observed)
        extra = {key: _same_length(_info(key, value), f"infos/{key}", steps) for key, value in (infos or {}).items()}
        low, high = _bounds(action_low, action_high, acted)
        return cls(
            observations=_frozen(observed),
            actions=_frozen(acted),
            terminals=_frozen(terminal),
            timeouts=_frozen(_closed(terminal, timeout)),
            rewards=None if rewarded is None else _frozen(rewarded),
            next_observations=None if following is None else _frozen(following),
            infos={key: _frozen(value) for key, value in extra.items()},
            action_low=low,
            action_high=high,
            terminals_known=terminals is not None,
            attributes={key: _attribute(key, value) for key, value in (attributes or {}).items()},
        )

    def __len__(self) -> int:
        return len(self.observations)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.attributes.get('name', 'unnamed')}: {len(self)} steps, {len(self.episodes)} episodes, "
            f"observations {self.observation_dim}, actions {self.action_dim})"
        )

    @property
    def observation_dim(self) -> int:
        return self.observations.shape[1]

    @property
    def action_dim(self) -> int:
        return self.actions.shape[1]

    @cached_property
    def episodes(self) -> NDArray[np.int64]:
        """Every episode's first row and the row after its last: int64 `[E, 2]`."""
        stops = np.flatnonzero(self.terminals | self.timeouts) + 1
        return np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=1)

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Every episode's undiscounted return: float64 `[E]`. Raises DataError where there are no rewards."""
        return np.add.reduceat(self.require_rewards().astype(np.float64), self.episodes[:, 0])

    @property
    def action_bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lowest and highest action, each float32 `[action_dim]`.

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
        """Every array that is there, by name; infos as `infos/KEY`."""
        named = {
            "observations": self.observations,
            "actions": self.actions,
            "rewards": self.rewards,
            "next_observations": self.next_observations,
            "terminals": self.terminals,
            "timeouts": self.timeouts,
            "action_low": self.action_low,
            "action_high": self.action_high,
        }
        named |= {f"infos/{key}": value for key, value in self.infos.items()}
        return {key: value for key, value in named.items() if value is not None}

    def require_rewards(self) -> NDArray[np.float32]:
        """The rewards `[N]`; raises DataError where there are none."""
        if self.rewards is None:
            name = self.attributes.get("name", "this data set")
            raise DataError(
                f"{name!r} has no rewards; choose a method that needs none, or give rewards to from_arrays."
            )
        return self.rewards

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
        kept = self.terminals | ~self.timeouts
        if not kept.any():
            raise DataError(
                "Every episode is one step cut by a timeout, so no step has a successor; give 'next_observations'."
            )
        rows = np.flatnonzero(kept)
        following = np.where(self.terminals, np.arange(len(self)), np.arange(len(self)) + 1)[rows]
        # Where the row after was left out, its episode now ends one step earlier.
        cut = self.timeouts[rows] | ~kept[following]
        successors = _frozen(self.observations[following])
        return replace(self._take(rows), timeouts=_frozen(cut), next_observations=successors)

    def _take(self, rows: NDArray[np.integer]) -> "Dataset":
        taken: dict[str, Any] = {key: _frozen(value[rows]) for key, value in self.arrays().items() if key in _PER_STEP}
        return replace(self, **taken, infos={key: _frozen(value[rows]) for key, value in self.infos.items()})

    def save(self, target: str) -> None:
        """Writes to `"d4rl:PATH.hdf5"` (replaced in one step where it exists) or `"minari:ID"`.

        Raises DataError for an unknown scheme or where the target cannot hold this data.
        """
        from reverie.data.sources import save

        save(self, target)

    def summary(self) -> dict[str, Any]:
        """Plain values that describe the data: sizes, returns, lengths, ends, action range, attributes."""
        lengths = self.episodes[:, 1] - self.episodes[:, 0]
        return {
            "steps": len(self),
            "episodes": len(lengths),
            "observation_dim": self.observation_dim,
            "action_dim": self.action_dim,
            "return": None if self.rewards is None else _spread(self.returns),
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

    Raises DataError, with both names, where the numbers of columns or the declared bounds differ, where only some
    have rewards, and where actions lie outside another's declared bounds.
    """
    if not datasets:
        raise DataError("There is nothing to concatenate; give at least one data set.")
    declared = next((data for data in datasets if data.action_low is not None), datasets[0])
    for data in datasets:
        _check_alike(datasets[0], data)
        _check_bounds(declared, data)
    if any(data.next_observations is not None for data in datasets):
        datasets = tuple(data.with_next_observations() for data in datasets)
    return Dataset(
        **_concatenated([{key: getattr(data, key) for key in _PER_STEP} for data in datasets]),
        infos=_concatenated([data.infos for data in datasets]),
        action_low=declared.action_low,
        action_high=declared.action_high,
        terminals_known=all(data.terminals_known for data in datasets),
        attributes=_agreed([data.attributes for data in datasets]),
    )


def _name(data: Dataset) -> str:
    return repr(data.attributes.get("name", "an unnamed data set"))


def _check_alike(first: Dataset, other: Dataset) -> None:
    for what in ("observation", "action"):
        columns, others = (getattr(data, f"{what}_dim") for data in (first, other))
        if columns != others:
            raise DataError(
                f"{_name(first)} has {columns} columns of {what}s and {_name(other)} has {others}; only data of one "
                "task can be joined."
            )
    if (first.rewards is None) != (other.rewards is None):
        has, lacks = (first, other) if other.rewards is None else (other, first)
        raise DataError(f"{_name(has)} has rewards and {_name(lacks)} has none; give rewards to both or to neither.")


def _check_bounds(declared: Dataset, other: Dataset) -> None:
    low, high = declared.action_low, declared.action_high
    if low is None or high is None:
        return
    if other.action_low is not None and other.action_high is not None:
        theirs, differ = "bounds", (other.action_low != low) | (other.action_high != high)
        lowest, highest = other.action_low, other.action_high
    else:
        lowest, highest = other.actions.min(axis=0), other.actions.max(axis=0)
        theirs, differ = "actions", (lowest < low) | (highest > high)
    if differ.any():
        i = int(np.argmax(differ))
        raise DataError(
            f"{_name(declared)} bounds action {i} by [{low[i]!s}, {high[i]!s}], and the {theirs} of {_name(other)} are "
            f"[{lowest[i]!s}, {highest[i]!s}]; bring the two to the same scale."
        )


def _concatenated(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all tables have, alike in shape, one after another."""
    present = {key: [table[key] for table in tables if table.get(key) is not None] for key in tables[0]}
    return {
        key: _frozen(np.concatenate(arrays))
        for key, arrays in present.items()
        if len(arrays) == len(tables) and len({array.shape[1:] for array in arrays}) == 1
    }


def _agreed(attributes: Sequence[Mapping[str, Attribute]]) -> dict[str, Attribute]:
    """The attributes in which all agree, names and sources joined where they differ."""
    first = attributes[0]
    agreed = {key: value for key, value in first.items() if all(other.get(key) == value for other in attributes)}
    for key in ("name", "source"):
        values = [each[key] for each in attributes if key in each]
        if key not in agreed and len(values) == len(attributes):
            agreed[key] = "+".join(map(str, values))
    return agreed


def _spread(values: np.ndarray) -> dict[str, float]:
    return {name: float(getattr(np, name)(values)) for name in ("mean", "median", "min", "max")}


def _frozen(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _numbers(key: str, value: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{key!r} has rows of differing lengths; give one rectangular array.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{key!r} has type {array.dtype}; give an array of numbers.")
    return array


def _floats(key: str, value: ArrayLike, dimensions: int) -> NDArray[np.float32]:
    array = _numbers(key, value)
    expected = "[steps, dim]" if dimensions == 2 else "[steps]"
    if array.ndim != dimensions:
        raise DataError(f"{key!r} has shape {array.shape}; give {expected}, episodes one after another.")
    if array.size == 0:
        raise DataError(f"{key!r} is empty (shape {array.shape}); give at least one step of at least one number.")
    return _finite(key, array)


def _check_continuous(actions: ArrayLike) -> None:
    array = _numbers("actions", actions)
    if array.dtype.kind in "iub":
        raise DataError(
            f"'actions' has type {array.dtype} and shape {array.shape}: discrete actions. Every method here needs "
            "continuous ones, [steps, dim] of floats; cast them if they are continuous."
        )


def _finite(key: str, array: np.ndarray) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        cast = np.asarray(array, dtype=np.float32)
    finite = np.isfinite(cast)
    if not finite.all():
        row, *column = (int(i) for i in np.argwhere(~finite)[0])
        where = f"row {row}" + (f", column {', '.join(map(str, column))}" if column else "")
        count = int(finite.size - np.count_nonzero(finite))
        raise DataError(
            f"{key!r} holds {array[(row, *column)]!s} at {where} ({count} such in all), which is not a finite "
            f"32-bit number; repair it or leave out its episode."
        )
    return cast


def _flags(key: str, value: ArrayLike | None, steps: int) -> NDArray[np.bool_]:
    if value is None:
        return np.zeros(steps, dtype=bool)
    array = _numbers(key, value)
    if array.ndim != 1:
        raise DataError(f"{key!r} has shape {array.shape}; give [steps], one flag a step.")
    _same_length(array, key, steps)
    if array.dtype != bool:
        wrong = np.flatnonzero((array != 0) & (array != 1))
        if wrong.size:
            raise DataError(f"{key!r} holds {array[wrong[0]]!s} at row {wrong[0]}; give 0 or 1 (or booleans).")
    return array.astype(bool, copy=False)


def _info(key: str, value: ArrayLike) -> np.ndarray:
    array = _numbers(f"infos/{key}", value)
    if array.ndim == 0:
        raise DataError(f"'infos/{key}' is one number; give [steps, ...], or put it into attributes.")
    return _finite(f"infos/{key}", array) if array.dtype.kind == "f" else array


def _attribute(key: str, value: Any) -> Attribute:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if not isinstance(value, Attribute):
        raise DataError(f"The attribute {key!r} is a {type(value).__name__}; give a text, a number or a list of these.")
    return value


def _same_length(array: np.ndarray, key: str, steps: int) -> np.ndarray:
    if len(array) != steps:
        raise DataError(
            f"{key!r} has {len(array)} rows where 'observations' has {steps}; give every key one row a step."
        )
    return array


def _check_width(following: np.ndarray, observed: np.ndarray) -> None:
    if following.shape[1] != observed.shape[1]:
        raise DataError(
            f"'next_observations' has {following.shape[1]} columns where 'observations' has {observed.shape[1]}; "
            f"give both the same."
        )


def _closed(terminals: NDArray[np.bool_], timeouts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The timeouts, with the last row cut where an episode is still open."""
    if not (terminals.any() or timeouts.any()):
        raise DataError(
            f"No episode ends: 'terminals' and 'timeouts' are false in all {len(terminals)} rows; "
            f"set 'timeouts' at the last row of every episode that was cut and 'terminals' where the task ended."
        )
    if terminals[-1] or timeouts[-1]:
        return timeouts
    closed = timeouts.copy()
    closed[-1] = True
    return closed


def _bounds(
    low: ArrayLike | None, high: ArrayLike | None, actions: np.ndarray
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    if low is None and high is None:
        return None, None
    if low is None or high is None:
        raise DataError("Only one of 'action_low' and 'action_high' is given; give both or neither.")
    lowest, highest = (_bound(key, value, actions) for key, value in (("action_low", low), ("action_high", high)))
    if (lowest >= highest).any():
        column = int(np.argmax(lowest >= highest))
        raise DataError(
            f"'action_low' {lowest[column]!s} is not below 'action_high' {highest[column]!s} in column {column}; "
            f"exchange or correct them."
        )
    outside = (actions < lowest) | (actions > highest)
    if outside.any():
        row, column = (int(i) for i in np.argwhere(outside)[0])
        raise DataError(
            f"'actions' holds {actions[row, column]!s} at row {row}, column {column}, outside its bounds "
            f"[{lowest[column]!s}, {highest[column]!s}] ({int(outside.sum())} such in all); "
            f"clip the actions or widen the bounds."
        )
    return _frozen(lowest), _frozen(highest)


def _bound(key: str, value: ArrayLike, actions: np.ndarray) -> NDArray[np.float32]:
    array = _numbers(key, value)
    if array.shape not in ((), actions.shape[1:]):
        raise DataError(f"{key!r} has shape {array.shape}; give one number or {actions.shape[1]}, one an action.")
    return np.array(np.broadcast_to(_finite(key, array), actions.shape[1:]))
