"""What grows during a run: metrics, in its folder and wherever loggers put them, and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reverie.training import folder
from reverie.training.loggers import Logger, columns, open_loggers
from reverie.training.metrics import Table


class Store:
    """Of a run's folder; without a folder only the table, in memory. One that does not `write` reads checkpoints."""

    def __init__(self, path: Path | None, keep: int = 1, *, write: bool = True):
        self.path, self.writes = path, path if write else None
        self.table = Table(self.writes and self.writes / folder.METRICS)
        self.checkpoints = folder.Checkpoints(path, keep, write=write) if path else None
        self.loggers: list[Logger] = []

    def open_loggers(self, names: Sequence[str], config: Mapping[str, Any], done: int) -> None:
        if self.writes:
            self.loggers = open_loggers(names, self.writes / folder.LOGS, config, done)

    def truncate(self, done: int) -> None:
        """Forget what was written after update `done`."""
        self.table.truncate(done)
        if self.checkpoints and self.writes:
            self.checkpoints.forget_after(done)

    @property
    def seconds(self) -> float:
        """Of training, until the last row of the metrics."""
        return self.table.last("seconds")

    def append(self, rows: list[dict[str, float]]) -> None:
        self.table.append(rows)
        for logger in self.loggers:
            logger.log(int(rows[0]["step"]), columns(rows))

    def save(self, step: int, states: Any) -> None:
        if self.checkpoints and self.writes:
            self.checkpoints.save(step, states)

    def latest(self) -> int | None:
        return self.checkpoints.latest() if self.checkpoints else None

    def steps(self) -> list[int]:
        """Of which there is a checkpoint."""
        return self.checkpoints.steps() if self.checkpoints else []

    def restore(self, step: int, like: Any) -> Any:
        """As of `folder.Checkpoints`; for a store with a folder."""
        assert self.checkpoints is not None
        return self.checkpoints.restore(step, like)

    def kept(self) -> str:
        """Which checkpoint is the last good one, in a sentence."""
        if self.latest() is None:
            return "No checkpoint had been written yet."
        return f"The last good checkpoint is that of update {self.latest()} in {str(self.path)!r}."

    def close(self) -> None:
        for writer in (self.checkpoints, *self.loggers):
            if writer:
                writer.close()


class Stores:
    """Of runs that are trained together, by name: each has an equal part of the states, in order."""

    def __init__(self, stores: Mapping[str, Store], path: Path | None = None):
        self.stores, self.path = dict(stores), path
        self.writes, self.lost = path, set[str]()
        """Of the runs, those that are neither written nor read any more."""

    @property
    def going(self) -> dict[str, Store]:
        return {name: store for name, store in self.stores.items() if name not in self.lost}

    def places(self, name: str, count: int) -> slice:
        """A run's, among all `S` of them."""
        own, at = count // len(self.stores), list(self.stores).index(name)
        return slice(at * own, (at + 1) * own)

    def open_loggers(self, names: Sequence[str], config: Mapping[str, Any], done: int) -> None:
        """There are none of all together."""

    def truncate(self, done: int) -> None:
        for store in self.stores.values():
            store.truncate(done)

    @property
    def seconds(self) -> float:
        return next(iter(self.going.values())).seconds

    def append(self, rows: list[dict[str, float]]) -> None:
        for name, store in self.going.items():
            store.append(rows[self.places(name, len(rows))])

    def save(self, step: int, states: Any) -> None:
        for name, store in self.going.items():
            store.save(step, self.part(name, states))

    def part(self, name: str, states: Any) -> Any:
        """Of states `[S, ...]`, a run's."""
        return jax.tree.map(lambda leaf: leaf[self.places(name, len(leaf))], states)

    def latest(self) -> int | None:
        """Which all of them have: the newest are written one after another."""
        steps = [store.latest() for store in self.going.values()]
        return None if None in steps else min(steps)  # type: ignore[type-var]

    def restore(self, step: int, like: Any) -> Any:
        def own(leaf: Any) -> Any:
            return jax.ShapeDtypeStruct((leaf.shape[0] // len(self.stores), *leaf.shape[1:]), leaf.dtype)

        found = [store.restore(step, jax.tree.map(own, like)) for store in self.stores.values()]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *found)

    def kept(self) -> str:
        return f"The last good checkpoint is that of update {self.latest() or 0} of each in {str(self.path)!r}."
