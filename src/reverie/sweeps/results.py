"""What a sweep found: every trial in one table, and the best one, with what choosing it does to its score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import ReverieError
from reverie.evaluation.scores import FILE, MEASURES, bootstrap
from reverie.evaluation.scores import read as read_scores
from reverie.sweeps.trials import RUNS, Trial
from reverie.training.metrics import Table

NAME = "results"


def scored(trial: Trial, out: Path, by: str | None, evaluated: bool) -> tuple[float, ...]:
    """Every seed's score: by the last evaluation, or by the last value of the metric `by`. Raises ReverieError where
    there is none such."""
    folder = out / RUNS / trial.name
    if evaluated and (by is None or by in MEASURES):
        record = [each for found in read_scores(folder / FILE).values() for each in found][-1]
        names = [name for name in MEASURES if record.get(MEASURES[name]) is not None]
        if by is not None and by not in names:
            raise ReverieError(f"The evaluations have no {by!r}; they have {', '.join(names)}.")
        return tuple(np.asarray(record[MEASURES[by or names[0]]], float).mean(1).tolist())
    columns = Table(folder / "metrics.csv").as_columns()
    if by is None or by not in columns:
        raise ReverieError(f"Without an environment, say by which metric: one of {', '.join(columns)}, not {by!r}.")
    rows = columns["step"] == columns["step"].max()
    return tuple(columns[by][rows].tolist())


def rows(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """Columns, of a row a trial: what was searched, the score with its 95 % interval over seeds, and how it went."""
    names = dict.fromkeys(name for trial in trials for name in trial.settings)
    intervals = [bootstrap(trial.seeds) if trial.seeds else None for trial in trials]
    return {
        "trial": [trial.number for trial in trials],
        **{name: [_plain(trial.settings.get(name)) for trial in trials] for name in names},
        "score": [trial.score for trial in trials],
        "low": [interval and interval.low for interval in intervals],
        "high": [interval and interval.high for interval in intervals],
        "minutes": [trial.minutes for trial in trials],
        "attempts": [trial.attempts for trial in trials],
        "state": [trial.state for trial in trials],
        "why": [trial.why for trial in trials],
    }


def _plain(value: Any) -> Any:
    return str(list(value)) if isinstance(value, tuple) else value


def write(trials: Sequence[Trial], out: Path) -> Path:
    """As parquet where pyarrow is installed, else as CSV."""
    columns = rows(trials)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return _write_csv(columns, out / f"{NAME}.csv")
    pq.write_table(pa.table({name: _alike(values) for name, values in columns.items()}), out / f"{NAME}.parquet")
    return out / f"{NAME}.parquet"


def _alike(values: list[Any]) -> list[Any]:
    """As text where they are of several kinds, which a column of parquet cannot hold."""
    kinds = {
        float if isinstance(value, int | float) and not isinstance(value, bool) else type(value) for value in values
    }
    return values if len(kinds - {type(None)}) < 2 else [value if value is None else str(value) for value in values]


def _write_csv(columns: dict[str, list[Any]], path: Path) -> Path:
    import csv

    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def best(trials: Sequence[Trial], lowest: bool = False) -> Trial | None:
    """The one with the highest score, or the lowest; the earlier one of two that are equal. None where none is done."""
    done = [trial for trial in trials if trial.state == "done" and trial.score is not None]
    return min(done, key=lambda trial: (trial.score if lowest else -trial.score, trial.number)) if done else None  # type: ignore[operator]
