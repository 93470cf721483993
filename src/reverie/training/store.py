"""The files that grow during a run: metrics, checkpoints, TensorBoard's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reverie.training import folder
from reverie.training.metrics import Table, TensorBoard


class Store:
    """Of a run's folder; without a folder only the table, in memory."""

    def __init__(self, path: Path | None, keep: int = 1):
        self.path = path
        self.table = Table(path and path / folder.METRICS)
        self.checkpoints = folder.Checkpoints(path, keep, write=True) if path else None
        self.tensorboard: TensorBoard | None = None

    def write_tensorboard(self, wanted: bool, done: int) -> None:
        if wanted and self.path:
            self.tensorboard = TensorBoard(self.path / "tensorboard", done)

    def append(self, rows: list[dict[str, float]]) -> None:
        self.table.append(rows)
        if self.tensorboard:
            self.tensorboard.append(rows)

    def save(self, step: int, states: Any) -> None:
        if self.checkpoints:
            self.checkpoints.save(step, states)

    def latest(self) -> int | None:
        return self.checkpoints.latest() if self.checkpoints else None

    def kept(self) -> str:
        """Which checkpoint is the last good one, in a sentence."""
        if self.latest() is None:
            return "No checkpoint had been written yet."
        return f"The last good checkpoint is that of update {self.latest()} in {str(self.path)!r}."

    def close(self) -> None:
        for writer in (self.checkpoints, self.tensorboard):
            if writer:
                writer.close()
