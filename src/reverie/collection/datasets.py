"""Data sets that are generated here, by name."""

from collections.abc import Callable
from dataclasses import dataclass

from reverie.collection import locomotion, pointmaze
from reverie.data import Dataset
from reverie.errors import DataError


@dataclass(frozen=True)
class Entry:
    """How a named data set is made."""

    maker: Callable[..., Dataset]
    """Called as maker(name, steps=..., seed=..., progress=...)."""
    steps: int
    """Environment steps when nothing else is asked for."""
    description: str


_LOCOMOTION_STEPS = {"medium-replay": 3_000_000, "medium-expert": 2_000_000}
_PROTOCOL = "way-point controller with noise walking from random goal to random goal, never reset"
DATASETS = {
    "pointmaze-umaze": Entry(pointmaze.collect, 1_000_000, f"U-shaped maze, 7 free cells; {_PROTOCOL}"),
    "pointmaze-medium": Entry(pointmaze.collect, 2_000_000, f"maze of 26 free cells; {_PROTOCOL}"),
    "pointmaze-large": Entry(pointmaze.collect, 4_000_000, f"maze of 46 free cells; {_PROTOCOL}"),
} | {
    f"{task}-{kind}": Entry(locomotion.collect, _LOCOMOTION_STEPS.get(kind, 1_000_000), f"{environment}; {what}")
    for task, environment in locomotion.ENVIRONMENTS.items()
    for kind, what in locomotion.KINDS.items()
}
"""The steps are those of D4RL's sets of the same name; of a medium-replay the most that its agent may take."""


def make_dataset(name: str, *, steps: int | None = None, seed: int = 0, progress: bool = False) -> Dataset:
    """Generates a named data set of `DATASETS`.

    Args:
        name: a key of `DATASETS`.
        steps: environment steps; the entry's own number when None.
        seed: same name, steps and seed, same data (on one machine kind and version of the simulator).
        progress: shows a bar on the terminal.

    Raises:
        DataError: unknown name.
        ReverieError: steps below 1, or no simulator installed.
    """
    if name not in DATASETS:
        raise DataError(f"No data set {name!r} can be generated; there are {', '.join(DATASETS)}.")
    entry = DATASETS[name]
    return entry.maker(name, steps=entry.steps if steps is None else steps, seed=seed, progress=progress)
