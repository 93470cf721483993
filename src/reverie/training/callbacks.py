"""What a user adds to a training: called at the end of every segment, for columns of its own in the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from reverie.errors import RunError
from reverie.training.run import Run


class Callback(Protocol):
    """Called at the end of every segment of updates, before its checkpoint."""

    def on_segment(self, run: Run) -> Mapping[str, Any] | None:
        """Further columns of the segment's row of the metrics: a number, or one for each seed; None for none.

        `run` is as of this segment. Its states are used again by the next one: nothing of them may be kept.
        """


def add_columns(rows: list[dict[str, float]], columns: Mapping[str, Any] | None) -> None:
    """Put a callback's columns into the rows of a segment, one a seed. Raises RunError for a name that is taken."""
    for name, values in (columns or {}).items():
        if name in rows[0]:
            raise RunError(f"A callback gives a column {name!r}, and the metrics have one; choose another name.")
        for row, value in zip(rows, np.broadcast_to(values, len(rows)), strict=True):
            row[name] = float(value)
