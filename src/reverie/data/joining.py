"""Whether data sets can be joined, and what of theirs is shared."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from reverie.data.checking import Attribute, first, frozen, listed
from reverie.data.fields import Field, describe
from reverie.errors import DataError

if TYPE_CHECKING:
    from reverie.data.dataset import Dataset


def _names(first: "Dataset", other: "Dataset") -> tuple[str, str]:
    """Or the sources, where both have one name."""
    for key in ("name", "source"):
        names = [repr(data.attributes.get(key, "an unnamed data set")) for data in (first, other)]
        if names[0] != names[1]:
            break
    return names[0], names[1]


def check_alike(first: "Dataset", other: "Dataset") -> None:
    one, two = _names(first, other)
    for what in ("observation", "action"):
        space, theirs = (getattr(data, f"{what}_space") for data in (first, other))
        if space == theirs:
            continue
        if all(isinstance(each, Field) and each.kind == "vector" for each in (space, theirs)):
            raise DataError(
                f"{one} has {space.shape[0]} columns of {what}s and {two} has {theirs.shape[0]}; only data with "
                "equally many can be joined."
            )
        raise DataError(
            f"The {what}s of {one} are {describe(space)} and those of {two} {describe(theirs)}; only data that are "
            "alike can be joined."
        )
    for key in ("rewards", "costs"):
        lacks = [getattr(data, key) is None for data in (first, other)]
        if lacks[0] != lacks[1]:
            has, has_none = (two, one) if lacks[0] else (one, two)
            raise DataError(f"{has} has {key} and {has_none} has none; give {key} to both or to neither.")
    _check_tasks(first, other)


def _check_tasks(first: "Dataset", other: "Dataset") -> None:
    """Where the tasks' numbers (the info "task") have sentences, the same number must be the same task in both."""
    tasks = [data.attributes.get("tasks") for data in (first, other) if "task" in data.infos]
    if len(tasks) == 2 and tasks[0] != tasks[1]:
        one, two = _names(first, other)
        raise DataError(
            f"The tasks of {one} are {tasks[0]} and those of {two} {tasks[1]}, so that a number does not mean the same "
            "in both; merge the two where they were recorded, or join them without the info 'task'."
        )


def check_bounds(declared: "Dataset", other: "Dataset") -> None:
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
        i, (one, two) = first(differ), _names(declared, other)
        raise DataError(
            f"{one} bounds action {listed(i)} by [{low[i]!s}, {high[i]!s}], and the {theirs} of {two} are "
            f"[{lowest[i]!s}, {highest[i]!s}]; bring the two to the same scale."
        )


def concatenated(*arrays: np.ndarray) -> np.ndarray:
    return frozen(np.concatenate(arrays))


def shared(tables: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What all tables have, alike in shape, one after another."""
    present = {key: [table[key] for table in tables if key in table] for key in tables[0]}
    return {
        key: concatenated(*arrays)
        for key, arrays in present.items()
        if len(arrays) == len(tables) and len({array.shape[1:] for array in arrays}) == 1
    }


def agreed(attributes: Sequence[Mapping[str, Attribute]]) -> dict[str, Attribute]:
    """The attributes in which all agree, names and sources joined where they differ."""
    kept = {key: value for key, value in attributes[0].items() if all(each.get(key) == value for each in attributes)}
    for key in ("name", "source"):
        values = [each[key] for each in attributes if key in each]
        if key not in kept and len(values) == len(attributes):
            kept[key] = "+".join(map(str, values))
    return kept
