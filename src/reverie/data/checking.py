"""The checks and casts of arrays that become a data set. Each error names key, row and column, and what would do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.data.fields import Field, Tree, describe, field_of, flatten, space_of
from reverie.errors import DataError

Attribute = str | int | float | bool | list

_VECTORS = "[steps, dim] ([steps, agents, dim] for several agents)"


def frozen(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def observations(key: str, value: ArrayLike | Mapping[str, ArrayLike]) -> Tree:
    """One array, or a dictionary of arrays (sorted by name) of one length.

    Alone, numbers of any type are vectors; in a dictionary integers `[N, L]` are token ids. uint8 with more axes is
    an image in either.
    """
    if not isinstance(value, Mapping):
        return _entry(key, value)
    if not value:
        raise DataError(f"{key!r} is an empty dictionary; give at least one array by its name.")
    for name, part in value.items():
        _check_name(key, name, part)
    entries = {name: _entry(f"{key}/{name}", value[name], tokens=True) for name in sorted(value)}
    first = next(iter(entries))
    for name, entry in entries.items():
        same_length(entry, f"{key}/{name}", len(entries[first]), f"{key}/{first}")
    return entries


def actions(value: ArrayLike) -> NDArray[np.float32]:
    array = _numbers("actions", value)
    if array.dtype.kind in "iub":
        raise DataError(
            f"'actions' has type {array.dtype} and shape {array.shape}: discrete actions. Every method here needs "
            "continuous ones, [steps, dim] of floats; cast them if they are continuous."
        )
    return _vectors("actions", array)


def scalars(key: str, value: ArrayLike | None, steps: int) -> NDArray[np.float32] | None:
    """One number a step, such as rewards."""
    if value is None:
        return None
    array = _numbers(key, value)
    if array.ndim != 1:
        raise DataError(f"{key!r} has shape {array.shape}; give [steps], episodes one after another.")
    return frozen(same_length(_finite(key, _filled(key, array)), key, steps))


def flags(key: str, value: ArrayLike | None, steps: int) -> NDArray[np.bool_]:
    if value is None:
        return np.zeros(steps, dtype=bool)
    array = _numbers(key, value)
    if array.ndim != 1:
        raise DataError(f"{key!r} has shape {array.shape}; give [steps], one flag a step.")
    same_length(array, key, steps)
    if array.dtype != bool:
        wrong = np.flatnonzero((array != 0) & (array != 1))
        if wrong.size:
            raise DataError(f"{key!r} holds {array[wrong[0]]!s} at row {wrong[0]}; give 0 or 1 (or booleans).")
    return array.astype(bool, copy=False)


def info(key: str, value: ArrayLike, steps: int) -> np.ndarray:
    array = _numbers(f"infos/{key}", value)
    if array.ndim == 0:
        raise DataError(f"'infos/{key}' is one number; give [steps, ...], or put it into attributes.")
    cast = _finite(f"infos/{key}", array) if array.dtype.kind == "f" else array
    return frozen(same_length(cast, f"infos/{key}", steps))


def attribute(key: str, value: Any) -> Attribute:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if not isinstance(value, Attribute):
        raise DataError(f"The attribute {key!r} is a {type(value).__name__}; give a text, a number or a list of these.")
    return value


def same_length(array: np.ndarray, key: str, steps: int, reference: str = "observations") -> np.ndarray:
    if len(array) != steps:
        raise DataError(
            f"{key!r} has {len(array)} rows where {reference!r} has {steps}; give every key one row a step."
        )
    return array


def check_successors(successors: Tree, observed: Tree) -> None:
    theirs, ours = space_of(successors), space_of(observed)
    if theirs == ours:
        return
    if isinstance(theirs, Field) and isinstance(ours, Field) and theirs.kind == ours.kind == "vector":
        raise DataError(
            f"'next_observations' has {theirs.shape[0]} columns where 'observations' has {ours.shape[0]}; "
            f"give both the same."
        )
    raise DataError(
        f"'next_observations' are {describe(theirs)} where 'observations' are {describe(ours)}; give both the same."
    )


def check_agents(observed: Tree, acted: np.ndarray) -> None:
    if acted.ndim != 3:
        return
    for key, array in flatten("observations", observed).items():
        if field_of(array).kind == "agents" and array.shape[1] != acted.shape[1]:
            raise DataError(
                f"{key!r} has {array.shape[1]} agents where 'actions' has {acted.shape[1]}; give both the same, "
                "[steps, agents, dim]."
            )


def closed(terminals: NDArray[np.bool_], timeouts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The timeouts, with the last row cut where an episode is still open."""
    if not (terminals.any() or timeouts.any()):
        raise DataError(
            f"No episode ends: 'terminals' and 'timeouts' are false in all {len(terminals)} rows; "
            f"set 'timeouts' at the last row of every episode that was cut and 'terminals' where the task ended."
        )
    if terminals[-1] or timeouts[-1]:
        return timeouts
    ended = timeouts.copy()
    ended[-1] = True
    return ended


def bounds(
    low: ArrayLike | None, high: ArrayLike | None, actions: np.ndarray
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """The lowest and the highest action, of one action's shape, within which all must lie; None where not given."""
    if low is None and high is None:
        return None, None
    if low is None or high is None:
        raise DataError("Only one of 'action_low' and 'action_high' is given; give both or neither.")
    lowest, highest = (_bound(key, value, actions) for key, value in (("action_low", low), ("action_high", high)))
    if (lowest >= highest).any():
        column = first(lowest >= highest)
        raise DataError(
            f"'action_low' {lowest[column]!s} is not below 'action_high' {highest[column]!s} in column "
            f"{listed(column)}; exchange or correct them."
        )
    outside = (actions < lowest) | (actions > highest)
    if outside.any():
        row, *rest = first(outside)
        column = tuple(rest)
        raise DataError(
            f"'actions' holds {actions[(row, *column)]!s} at row {row}, column {listed(column)}, outside its bounds "
            f"[{lowest[column]!s}, {highest[column]!s}] ({int(outside.sum())} such in all); "
            f"clip the actions or widen the bounds."
        )
    return frozen(lowest), frozen(highest)


def first(mask: np.ndarray) -> tuple[int, ...]:
    """The place of the first true value."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def listed(place: tuple[int, ...]) -> str:
    return ", ".join(map(str, place))


def _check_name(key: str, name: Any, part: Any) -> None:
    if not isinstance(name, str) or name in ("", ".") or "/" in name:
        raise DataError(f"{key!r} has an entry named {name!r}; give every entry a name that is a text without a slash.")
    if isinstance(part, Mapping):
        raise DataError(f"'{key}/{name}' is itself a dictionary; give one level of names, each with one array.")


def _entry(key: str, value: ArrayLike, tokens: bool = False) -> np.ndarray:
    array = _numbers(key, value)
    if array.dtype == np.uint8 and array.ndim > 2:
        return frozen(_image(key, array))
    if array.ndim == 4:
        raise DataError(
            f"{key!r} has shape {array.shape} and type {array.dtype}; give images as uint8, 0 to 255 (the network "
            "scales them)."
        )
    if tokens and array.dtype.kind in "iu" and array.ndim > 1:
        return frozen(_tokens(key, array))
    return frozen(_vectors(key, array))


def _image(key: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 4 and 1 <= array.shape[-1] <= 4:
        return _filled(key, array)
    there = array.ndim == 4 and 1 <= array.shape[1] <= 4
    raise DataError(
        f"{key!r} has shape {array.shape}; give images as [steps, height, width, channels], 1 to 4 channels last"
        + (" (numpy.moveaxis(x, 1, -1) brings them there)." if there else ".")
    )


def _tokens(key: str, array: np.ndarray) -> NDArray[np.int32]:
    if array.ndim != 2:
        raise DataError(
            f"{key!r} has shape {array.shape} and type {array.dtype}; give token ids as [steps, length], or floats if "
            f"these are vectors, {_VECTORS}."
        )
    limits = np.iinfo(np.int32)
    outside = (_filled(key, array) < limits.min) | (array > limits.max)
    if outside.any():
        row, column = first(outside)
        raise DataError(
            f"{key!r} holds {array[row, column]!s} at row {row}, column {column}, which is beyond the token ids of 32 "
            "bits (int32); give smaller ids, or floats if these are vectors."
        )
    return array.astype(np.int32, copy=False)


def _vectors(key: str, array: np.ndarray) -> NDArray[np.float32]:
    if array.ndim not in (2, 3):
        raise DataError(f"{key!r} has shape {array.shape}; give {_VECTORS}, episodes one after another.")
    return _finite(key, _filled(key, array))


def _numbers(key: str, value: ArrayLike) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{key!r} has rows of differing lengths; give one rectangular array.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{key!r} has type {array.dtype}; give an array of numbers.")
    return array


def _filled(key: str, array: np.ndarray) -> np.ndarray:
    if array.size == 0:
        raise DataError(f"{key!r} is empty (shape {array.shape}); give at least one step of at least one number.")
    return array


def _finite(key: str, array: np.ndarray) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        cast = np.asarray(array, dtype=np.float32)
    finite = np.isfinite(cast)
    if not finite.all():
        row, *column = first(~finite)
        where = f"row {row}" + (f", column {listed(tuple(column))}" if column else "")
        count = int(finite.size - np.count_nonzero(finite))
        raise DataError(
            f"{key!r} holds {array[(row, *column)]!s} at {where} ({count} such in all), which is not a finite "
            f"32-bit number; repair it or leave out its episode."
        )
    return cast


def _bound(key: str, value: ArrayLike, actions: np.ndarray) -> NDArray[np.float32]:
    array = _numbers(key, value)
    if array.shape not in ((), actions.shape[1:], actions.shape[-1:]):
        raise DataError(f"{key!r} has shape {array.shape}; give one number or {actions.shape[-1]}, one an action.")
    return np.array(np.broadcast_to(_finite(key, array), actions.shape[1:]))
