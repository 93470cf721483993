"""Runs beside each other: the settings in which they differ, their metrics with intervals, their scores, one page."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.errors import ReverieError, RunError
from reverie.evaluation.plots import DISTINCT, NOT_CURVES, SOFT, panels
from reverie.evaluation.scores import FILE, MEASURES, PER_CENT, bootstrap, read
from reverie.evaluation.statistics import probability_of_improvement
from reverie.training import folder
from reverie.training.metrics import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABSENT = "–"
LEFT_OUT = {"data.fingerprint", "initial.path", "versions.jax", "training.loggers", "training.tensorboard"}
"""Settings that say nothing to a reader, or say it again."""


@dataclass(frozen=True)
class Compared:
    """Runs by their names, the first one what the others are compared with."""

    configs: Mapping[str, Mapping[str, Any]]
    """Every setting, its name as a path: "algorithm.batch_size"."""
    metrics: Mapping[str, Mapping[str, np.ndarray]]
    """Columns of metrics.csv."""
    records: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """By environment the last evaluation in evaluation.json."""

    @property
    def names(self) -> list[str]:
        return list(self.configs)

    def differing(self) -> dict[str, list[Any]]:
        """The settings that are not the same in all runs, those that most runs have first; and their values by run,
        None where a run has none such."""
        every = dict.fromkeys(name for config in self.configs.values() for name in config if name not in LEFT_OUT)
        found = {name: [config.get(name) for config in self.configs.values()] for name in every}
        lacking = sorted(found, key=lambda name: sum(name not in config for config in self.configs.values()))
        return {name: found[name] for name in lacking if any(value != found[name][0] for value in found[name])}

    def known(self) -> dict[str, int]:
        """The metrics, and how many of the runs have each."""
        every = [
            name
            for table in self.metrics.values()
            for name, values in table.items()
            if name not in NOT_CURVES and not np.isnan(values).all()
        ]
        return dict(Counter(every))


def compare(paths: Sequence[str | Path]) -> Compared:
    """What the folders of two runs or more hold. Nothing of them is loaded: they may be training.

    Raises ReverieError for fewer than two, and RunError for a folder without a run or without metrics.
    """
    folders = [Path(path).expanduser().resolve() for path in paths]
    if len(set(folders)) < 2 or len(set(folders)) < len(folders):
        raise ReverieError(f"{', '.join(map(str, paths)) or 'No run'}: give the folders of two different runs or more.")
    configs = [dict(folder.flat(folder.read_config(path))) for path in folders]
    tables = [Table(path / folder.METRICS).as_columns() for path in folders]
    for path, table in zip(folders, tables, strict=True):
        if not table:
            raise RunError(f"There are no metrics in {str(path)!r} yet; wait until it has trained a segment.")
    records = [{env: each[-1] for env, each in read(path / FILE).items() if each} for path in folders]
    names = called(folders)
    return Compared(*(dict(zip(names, each, strict=True)) for each in (configs, tables, records)))


def called(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that are all different."""
    for depth in range(1, max(len(path.parts) for path in folders) + 1):
        names = ["/".join(path.parts[-depth:]) for path in folders]
        if len(set(names)) == len(names):
            break
    return names


# Tables, as rows of text below a head.

Rows = tuple[list[str], list[list[str]]]


def settings_table(found: Compared) -> Rows:
    """A line for each setting that differs."""
    rows = [[name, *(ABSENT if v is None else str(v) for v in values)] for name, values in found.differing().items()]
    return ["setting", *found.names], rows


def scores_table(found: Compared) -> Rows:
    """A line for each environment and run: the mean, its intervals over episodes and over seeds, and how likely one of
    its seeds is better than one of the first run's (Agarwal et al. 2021). The measure is the normalised score where
    there is one, else the success, else the return."""
    rows = []
    for env in dict.fromkeys(env for each in found.records.values() for env in each):
        first: Mapping[str, Any] | None = found.records[found.names[0]].get(env)
        for name, each in found.records.items():
            if (record := each.get(env)) is None:
                continue
            measure = _measure(record)
            told = record["estimates"][measure]
            better = _better(record, first) if first and name != found.names[0] and _measure(first) == measure else None
            rows.append(
                [
                    env,
                    name,
                    str(record["step"]),
                    measure + (" %" if measure.startswith(PER_CENT) else ""),
                    f"{told['mean']:.1f}",
                    _ends(told["episodes"]),
                    _ends(told["seeds"]),
                    better or ABSENT,
                ]
            )
    return ["environment", "run", "step", "measure", "mean", "episodes 95 %", "seeds 95 %", "better"], rows


def _measure(record: Mapping[str, Any]) -> str:
    return next(name for name in MEASURES if name in record["estimates"])


def _ends(interval: Mapping[str, float | None]) -> str:
    if interval["low"] is None or interval["high"] is None:
        return ABSENT
    return f"{interval['low']:.1f} to {interval['high']:.1f}"


def _better(record: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    stored = MEASURES[_measure(record)]
    one, two = ({"": np.asarray(each[stored], float)} for each in (record, first))
    found = probability_of_improvement(one, two)
    return f"{100 * found.value:.0f} % ({100 * found.low:.0f} to {100 * found.high:.0f})"


def metrics_table(found: Compared, columns: Sequence[str] | None = None) -> Rows:
    """Every metric at the end: the mean of the seeds' last values, and its 95 % interval over them."""
    rows = []
    for column in _chosen(found, columns):
        cells = []
        for table in found.metrics.values():
            last = [_last(table, column, seed) for seed in np.unique(table["seed"])] if column in table else []
            known = np.array([value for value in last if value is not None])
            cells.append(ABSENT if not len(known) else f"{known.mean():.4g}" + _beside(known))
        rows.append([column, *cells])
    return ["metric at the end", *found.names], rows


def _beside(values: np.ndarray) -> str:
    interval = bootstrap(values)
    return "" if interval.low is None else f" ({interval.low:.4g} to {interval.high:.4g})"


def _last(table: Mapping[str, np.ndarray], column: str, seed: int) -> float | None:
    values = table[column][table["seed"] == seed]
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else None


def _chosen(found: Compared, columns: Sequence[str] | None) -> list[str]:
    """The columns, or the metrics that two runs or more have, or all where there are none such."""
    known = found.known()
    if missing := [name for name in columns or () if name not in known]:
        raise ReverieError(f"There is no metric {missing[0]!r} in these runs; there are {', '.join(known)}.")
    return list(columns or [name for name, runs in known.items() if runs > 1] or known)


def draw(found: Compared, columns: Sequence[str] | None = None) -> Figure:
    """A panel for each metric, of those that two runs or more have unless `columns` says which: means over seeds, and
    bands of 95 % over them. Raises ReverieError for a metric that no run has."""
    names = _chosen(found, columns)
    units = ["environment steps" if "episodes" in table else "updates" for table in found.metrics.values()]
    unit = " or ".join(sorted(set(units)))
    with panels(len(names), width=3.4, height=2.5) as (figure, axes):
        for ax, name in zip(axes, names, strict=True):
            for (run, table), colour in zip(found.metrics.items(), cycle(DISTINCT)):
                if name in table:
                    _line(ax, table["step"], table[name], colour, run)
            ax.set(title=name, xlabel=unit)
            ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
        handles = {line.get_label(): line for ax in axes for line in ax.lines}
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=3, fontsize=9)
        figure.supxlabel("mean over seeds; band: 95 % over seeds", x=0.01, ha="left", fontsize=8, color=SOFT)
    return figure


def _line(ax: Any, steps: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    steps, values = steps[~np.isnan(values)], values[~np.isnan(values)]
    at = np.unique(steps)
    rows = [values[steps == step] for step in at]
    if any(len(row) > 1 for row in rows):
        ends = [bootstrap(row, resamples=500) for row in rows]
        low = [row[0] if end.low is None else end.low for row, end in zip(rows, ends, strict=True)]
        high = [row[0] if end.high is None else end.high for row, end in zip(rows, ends, strict=True)]
        ax.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.plot(at, [row.mean() for row in rows], color=colour, linewidth=1.6, label=label, marker="." * (len(at) == 1))


# One page.

STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#24292f;max-width:66rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}
div{overflow-x:auto}table{border-collapse:collapse;font-size:.87rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #eceef1;vertical-align:top}
th{color:#5c636d;font-weight:600}img{max-width:100%}p{color:#5c636d}"""


def page(found: Compared, figure: Figure, columns: Sequence[str] | None = None) -> str:
    """All of it as HTML that needs no other file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    encoded = base64.b64encode(picture.getvalue()).decode()
    settings = settings_table(found)
    parts = [
        _section("What differs", settings, "The runs have the same settings." if not settings[1] else ""),
        _section("Scores", scores_table(found), "" if any(found.records.values()) else "None of them was evaluated."),
        f'<h2>Curves</h2><img alt="Learning curves of the runs" src="data:image/png;base64,{encoded}">',
        _section("At the end", metrics_table(found, columns), ""),
    ]
    title = html.escape(" · ".join(found.names))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"</head><body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )


def _section(title: str, table: Rows, instead: str) -> str:
    head, rows = table
    if instead:
        return f"<h2>{title}</h2><p>{instead}</p>"
    lines = [_cells("th", head), *(_cells("td", row) for row in rows)]
    return f"<h2>{title}</h2><div><table>{''.join(lines)}</table></div>"


def _cells(kind: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in cells)}</tr>"
