"""What a user adds to a training: called at the end of every segment, for columns of its own in the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from reverie.errors import RunError
from reverie.training.run import Run


class Callback(Protocol):
    """Called at the end of every segment of updates, before its checkpoint.

    One that has an attribute `done`, and sets it, ends the training there: the segment is saved, and the run is
    returned as if it had had its steps.
    """

    def on_segment(self, run: Run) -> Mapping[str, Any] | None:
        """Further columns of the segment's row of the metrics: a number, or one for each seed; None for none.

        `run` is as of this segment. Its states are used again by the next one: nothing of them may be kept.
        """


def any_done(callbacks: Sequence[Callback]) -> bool:
    """Whether one of them ends the training."""
    return any(getattr(callback, "done", False) for callback in callbacks)


def add_columns(rows: list[dict[str, float]], columns: Mapping[str, Any] | None) -> None:
    """Put a callback's columns into the rows of a segment, one a seed. Raises RunError for a name that is taken."""
    for name, values in (columns or {}).items():
        if name in rows[0]:
            raise RunError(f"A callback gives a column {name!r}, and the metrics have one; choose another name.")
        for row, value in zip(rows, np.broadcast_to(values, len(rows)), strict=True):
            row[name] = float(value)
