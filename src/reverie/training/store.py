"""What grows during a run: metrics, in its folder and wherever loggers put them, and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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

    def append(self, rows: list[dict[str, float]]) -> None:
        self.table.append(rows)
        for logger in self.loggers:
            logger.log(int(rows[0]["step"]), columns(rows))

    def save(self, step: int, states: Any) -> None:
        if self.checkpoints and self.writes:
            self.checkpoints.save(step, states)

    def latest(self) -> int | None:
        return self.checkpoints.latest() if self.checkpoints else None

    def kept(self) -> str:
        """Which checkpoint is the last good one, in a sentence."""
        if self.latest() is None:
            return "No checkpoint had been written yet."
        return f"The last good checkpoint is that of update {self.latest()} in {str(self.path)!r}."

    def close(self) -> None:
        for writer in (self.checkpoints, *self.loggers):
            if writer:
                writer.close()
