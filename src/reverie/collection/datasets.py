"""Data sets that are collected here, by name."""

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

from reverie.collection import (
    compass,
    fork,
    locomotion,
    mamujoco,
    meeting,
    metaworld,
    ogbench,
    particles,
    pointmaze,
    pusht,
    speed,
)
from reverie.collection.parts import collecting
from reverie.collection.recipe import Entry, Suite
from reverie.data import Dataset
from reverie.errors import DataError


def make_dataset(
    name: str, *, steps: int | None = None, seed: int = 0, jobs: int = 1, progress: bool = False
) -> Dataset:
    """Collects a named data set of `DATASETS`.

    Args:
        name: a key of `DATASETS`.
        steps: environment steps; the entry's own number when None.
        seed: same name, steps and seed, same data (on one machine kind and version of the simulator).
        jobs: processes at once; the data do not depend on it.
        progress: shows a bar on the terminal.

    Raises:
        DataError: unknown name.
        ReverieError: steps or jobs below 1, or no simulator installed.
    """
    with making(name, steps=steps, seed=seed, jobs=jobs, progress=progress) as data:
        return data


@contextmanager
def making(
    name: str, *, steps: int | None = None, seed: int = 0, jobs: int = 1, progress: bool = False
) -> Iterator[Dataset]:
    """As `make_dataset`; what was collected is kept until the body is done, such as saving it."""
    entry = DATASETS.get(name) or VALIDATION.get(name)
    if entry is None:
        raise DataError(f"No data set {name!r} can be generated; {nearest(name)}")
    steps = entry.steps if steps is None else steps
    with collecting(entry.recipe, name, steps=steps, seed=seed, jobs=jobs, progress=progress) as data:
        yield data


def nearest(name: str) -> str:
    """What to say to a name that no data set has."""
    near = difflib.get_close_matches(name, DATASETS, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "`reverie data list` shows those that can."


SUITES: list[Suite] = [
    *(module.suite() for module in (pointmaze, locomotion, ogbench, metaworld)),
    metaworld.several(),
    *(module.suite() for module in (compass, pusht, fork, speed, meeting, particles, mamujoco)),
]
DATASETS: dict[str, Entry] = {name: entry for suite in SUITES for name, entry in suite.entries.items()}
VALIDATION: dict[str, Entry] = {name: entry for suite in SUITES for name, entry in suite.validation.items()}
"""Sets of the same recipes from other random numbers, NAME-val, a tenth as large."""
