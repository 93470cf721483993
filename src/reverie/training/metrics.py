"""The table of metrics: one row a seed and segment, in memory and as `metrics.csv`."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import RunError

TIMES = ("seconds", "updates_per_second")


class Table:
    """Rows of numbers under the columns seed, step, one a metric, and last the times.

    `seconds` counts all sessions of a run, `updates_per_second` the row's segment (the first one compiles too).
    With a `path` every row is on the disk when `append` returns, and the rows already there are read first.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self.columns: list[str] = []
        self.rows: list[list[float]] = []
        if path is not None and path.exists():
            self.columns, self.rows = _read(path)

    def append(self, rows: list[dict[str, float]]) -> None:
        """Add the rows of one segment. A stage of the training may bring columns of its own; NaN elsewhere."""
        if new := [column for column in rows[0] if column not in self.columns]:
            self._widen(new)
        added = [[row.get(column, math.nan) for column in self.columns] for row in rows]
        fresh, columns = not self.rows, self.columns
        self.rows += added
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                _write(file, ([columns] if fresh else []) + added)

    def _widen(self, new: list[str]) -> None:
        """Further columns: before the times, which come last."""
        columns = sorted([*self.columns, *new], key=lambda column: column in TIMES)  # stable
        before = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        self.columns, self.rows = columns, [[row.get(column, math.nan) for column in columns] for row in before]
        if self.rows:
            self._rewrite()

    def _rewrite(self) -> None:
        """The file anew, all at once or not at all."""
        if self.path is None:
            return
        fresh = self.path.with_suffix(".tmp")
        with fresh.open("w", newline="") as file:
            _write(file, ([self.columns] if self.columns else []) + self.rows)
        os.replace(fresh, self.path)

    def keep_until(self, step: int) -> None:
        """Forget the rows after `step`; the file keeps them."""
        at = self.columns.index("step") if self.columns else 0
        self.rows = [row for row in self.rows if row[at] <= step]
        self.columns = self.columns if self.rows else []

    def truncate(self, step: int) -> None:
        """Drop the rows after `step`, from the file as well, all at once or not at all."""
        self.keep_until(step)
        if self.path is not None and self.path.exists():
            self._rewrite()

    def last(self, column: str) -> float:
        """The last row's value in the column; 0 for an empty table."""
        return self.rows[-1][self.columns.index(column)] if self.rows else 0.0

    def as_columns(self) -> dict[str, np.ndarray]:
        """Every column as an array; seed and step as integers."""
        values = dict(zip(self.columns, zip(*self.rows, strict=True), strict=True)) if self.rows else {}
        return {
            name: np.array(column, dtype=np.int64 if name in ("seed", "step") else np.float64)
            for name, column in values.items()
        }


def _write(file: Any, lines: Iterable[list]) -> None:
    blank = ([("" if value != value else value) for value in line] for line in lines)
    csv.writer(file, lineterminator="\n").writerows(blank)
    file.flush()
    os.fsync(file.fileno())


def _read(path: Path) -> tuple[list[str], list[list[float]]]:
    # A line without its end was being written when the process died; it is no row.
    lines = list(csv.reader(path.read_text().rpartition("\n")[0].splitlines()))
    if not lines:
        return [], []
    columns, *rows = lines
    whole = [name in ("seed", "step") for name in columns]
    try:
        return columns, [
            [int(v) if is_int else float(v or "nan") for v, is_int in zip(row, whole, strict=True)] for row in rows
        ]
    except ValueError as error:
        raise RunError(f"{str(path)!r} is damaged ({error}); restore it from a copy, or move it away.") from None


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Metrics [S, L] of several parts of a segment, one after another."""
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def segment_rows(
    metrics: dict[str, np.ndarray], seeds: tuple[int, ...], step: int, seconds: float, rate: float
) -> list[dict[str, float]]:
    """One row a seed: the mean of each metric [S, L] over the segment that ends at `step`."""
    times = dict(zip(TIMES, (round(seconds, 3), round(rate, 3)), strict=True))
    means = {name: values.astype(np.float64).mean(axis=1) for name, values in metrics.items()}
    return [
        {"seed": seed, "step": step} | {name: float(means[name][s]) for name in sorted(means)} | times
        for s, seed in enumerate(seeds)
    ]


def divergence(metrics: dict[str, np.ndarray], finite: np.ndarray, seeds: tuple[int, ...], done: int) -> str | None:
    """What diverged first in a segment, in a sentence; None when everything is finite.

    Of the metrics [S, L] the first update that holds NaN or infinity is named. `finite` [S] says whether a
    seed's state is finite after the segment, `done` how many updates came before it.
    """
    found = [
        (int(offset), name, int(s))
        for name, values in metrics.items()
        for s, offset in np.argwhere(~np.isfinite(values))
    ]
    if found:
        offset, name, s = min(found)
        return f"{name} became {metrics[name][s, offset]} at update {done + offset + 1} of seed {seeds[s]}."
    if finite.all():
        return None
    broken = f"The state of seed {seeds[int(np.argmin(finite))]} holds NaN or infinity"
    if not metrics:  # an update need not tell any, and how many there were is not known here then
        return f"{broken} in the segment that follows update {done}."
    length = next(iter(metrics.values())).shape[1]
    return f"{broken} after update {done + length}, with every metric still finite."
