"""Data collected part by part: by several processes, and on from where it was after a stop, bit for bit.

A recipe cuts what is to be collected into parts, each of which depends on itself only. So the rows are the same by one
process and by many, and a part that is written is never collected again.
"""

from __future__ import annotations

import hashlib
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from filelock import FileLock, Timeout

from reverie.collection.recipe import Recipe, Rows
from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.paths import cache_folder, replacing
from reverie.terminal import Progress
from reverie.version import __version__


@contextmanager
def collecting(
    recipe: Recipe, name: str, *, steps: int, seed: int = 0, jobs: int = 1, progress: bool = False
) -> Iterator[Dataset]:
    """Collect a data set. Its parts are kept in `$REVERIE_CACHE/collecting` until the body is done, so that one that is
    stopped, or whose data could not be saved, goes on.

    Args:
        recipe: how.
        name: of the data set.
        steps: of all parts together, at least 1.
        seed: same seed, same data; at least 0.
        jobs: processes at once; they do not change what is collected.
        progress: shows a bar on the terminal.

    Raises:
        ReverieError: steps or jobs below 1, a seed below 0, or no simulator installed.
        DataError: another process collects the same.
    """
    for key, value, least in (("steps", steps, 1), ("seed", seed, 0), ("jobs", jobs, 1)):
        if value < least:
            raise ReverieError(f"{key} must be at least {least}, but is {value}.")
    folder = cache_folder() / "collecting" / f"{name}-{steps}-{seed}-{digest(recipe)}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.with_suffix(".lock"), timeout=0):
            yield recipe.dataset(_collect(recipe, name, folder, (steps, seed), jobs, progress), steps, seed)
            shutil.rmtree(folder)
    except Timeout:
        raise DataError(f"Another process collects {name!r} with these steps and seed; wait for it.") from None


def digest(recipe: Recipe) -> str:
    """Of what its parts depend on beside themselves: its settings, the files that it reads, and the library."""
    made = hashlib.sha256(f"{recipe!r} {__version__}".encode())
    for file in getattr(recipe, "files", ()):
        made.update(file.read_bytes())
    return made.hexdigest()[:10]


def _collect(recipe: Recipe, name: str, folder: Path, wanted: tuple[int, int], jobs: int, progress: bool) -> Rows:
    """Whatever parts are missing, and the rows of all."""
    parts = recipe.parts(*wanted)
    files = [folder / f"{i:05d}.npz" for i in range(len(parts))]
    left = [i for i, file in enumerate(files) if not file.exists()]
    done = sum(part.steps for i, part in enumerate(parts) if i not in set(left))
    if len(parts) == 1 and left:
        _one(recipe, parts[0], files[0], progress)
        left = []
    bar = Progress(f"collecting {name}", wanted[0], done, show=progress and bool(left), unit="steps")
    with bar, _interrupted_by_sigterm():
        for made in _all(recipe, [(parts[i], files[i]) for i in left], jobs):
            bar.more(made)
    return joined([read(file) for file in files])


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM is as Ctrl-C, which the other processes end with; they would stay for minutes else."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _all(recipe: Recipe, tasks: list[tuple[Any, Path]], jobs: int) -> Iterator[int]:
    """The steps of each task as it gets done."""
    if jobs == 1 or len(tasks) < 2:
        yield from (_one(recipe, *task) for task in tasks)
        return
    from joblib import Parallel, delayed

    workers = Parallel(n_jobs=min(jobs, len(tasks)), return_as="generator_unordered", batch_size=1)
    yield from workers(delayed(_beside_others)(recipe, *task) for task in tasks)


def _beside_others(recipe: Recipe, part: Any, file: Path) -> int:
    """In a process of several: on the CPU, since each would take a GPU's memory for itself."""
    jax.config.update("jax_platforms", "cpu")
    return _one(recipe, part, file)


def _one(recipe: Recipe, part: Any, file: Path, progress: bool = False) -> int:
    write(file, recipe.collect(part, progress))
    return part.steps


def write(file: Path, rows: Rows) -> None:
    """Whole or not at all."""
    with replacing(str(file)) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, **rows)  # type: ignore[arg-type]  # the names are those of arrays


def read(file: Path) -> Rows:
    with np.load(file, allow_pickle=False) as found:
        return {key: found[key] for key in found}


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of all, one part's after another's. Lets go of each part's column once it is joined."""
    return {key: np.concatenate([part.pop(key) for part in parts]) for key in list(parts[0])}
