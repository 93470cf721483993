"""How a data set is collected, and what is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from reverie.data import Dataset

Rows = dict[str, np.ndarray]
"""Arrays of a part by their names, a row a step, `[n, ...]`."""


class Recipe(Protocol):
    """How a data set is collected. It is pickled, and so made of plain values.

    Data are kept under a digest of its `repr` and of the contents of its `files`, a sequence of paths, where it has
    them.
    """

    def parts(self, steps: int, seed: int) -> Sequence[Any]:
        """What to collect, in its order: plain values, each with the `steps` that it is expected to have."""

    def collect(self, part: Any, progress: bool = False) -> Rows:
        """One part: the same part, the same rows (on one machine kind and version of the simulator). Shows a bar of its
        own where `progress` says so, as there is none beside it."""

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        """The data set of all parts' rows, one part's after another's."""


@dataclass(frozen=True)
class Part:
    """Rows that one process collects in one go."""

    index: int
    """Among the parts of the set."""
    steps: int
    seed: int
    """Of the set."""

    def rng(self, stream: int = 0) -> np.random.Generator:
        """Its own, another one for each `stream`."""
        return np.random.default_rng([self.seed, self.index, stream])


def cut(steps: int, size: int, seed: int) -> list[Part]:
    """Parts of `size` steps, the last one of what is left."""
    return [Part(i, min(size, steps - start), seed) for i, start in enumerate(range(0, steps, size))]


@dataclass(frozen=True)
class TaskPart(Part):
    """Of one of several tasks."""

    task: int
    """Its number among them."""


def by_task(steps: int, tasks: int, size: int, seed: int) -> list[TaskPart]:
    """Parts of `size` steps, task after task, of which each has the same share of the steps; the first ones have one
    more where they cannot be shared."""
    found: list[TaskPart] = []
    for task in range(tasks):
        share = steps // tasks + (task < steps % tasks)
        found += [TaskPart(len(found) + part.index, part.steps, seed, task) for part in cut(share, size, seed)]
    return found


@dataclass(frozen=True)
class Entry:
    """What a named data set is, and how it is made."""

    recipe: Recipe
    steps: int
    """Environment steps when nothing else is asked for."""
    description: str
    megabytes: float
    """Of its file in D4RL's layout."""
    minutes: float
    """That it took on two cores of an AMD EPYC."""


@dataclass(frozen=True)
class Suite:
    """Data sets that are made alike."""

    title: str
    """What they are, on one line."""
    simulator: str
    """And its licence. The data themselves are under the library's, Apache-2.0."""
    entries: dict[str, Entry]
    """By name."""
    as_one: str = ""
    """What stands for all their names in a list, where they are too many and differ in nothing else."""
    validation: dict[str, Entry] = field(default_factory=dict)
    """By their names, NAME-val: smaller sets of the same recipes, which no list shows."""
