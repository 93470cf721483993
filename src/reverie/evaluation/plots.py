"""Pictures of numbers: learning curves, returns, scores, errors, distributions. Those of mazes are in `mazes`.

Every function returns a matplotlib Figure that belongs to no window; `save` writes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.data import Dataset
from reverie.errors import ReverieError, RunError
from reverie.evaluation.scores import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titleweight": "regular",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a919c",
    "axes.labelcolor": "#3b4149",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceef1",
    "xtick.color": "#5c636d",
    "ytick.color": "#5c636d",
    "text.color": "#24292f",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
INK, SOFT, BLUE = "#24292f", "#5c636d", "#3366aa"

DISTINCT = ("#8a919c", "#d9822b", BLUE, "#2a9d6f", "#8e4fb0", "#c0392b")
"""Colours of lines that have nothing in common, a pale one first for what the others are compared with."""

PAGE = 10.5
"""Inches that the panels of one row take at most."""

NOT_CURVES = ("seed", "step", "seconds", "updates_per_second")


def save(figure: "Figure", path: str | Path) -> Path:
    """Writes a figure; the suffix decides the format. The folder is made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def learning_curves(source: str | Path | Mapping[str, np.ndarray], columns: Sequence[str] | None = None) -> "Figure":
    """Every metric over the updates: the mean over seeds, and the range from the lowest seed to the highest.

    Args:
        source: a run's folder, its metrics.csv, or the columns themselves (`run.metrics()`).
        columns: metrics to show; all of them when None.

    Raises:
        RunError: no such file, or no row in it.
        ReverieError: a column that is not there.
    """
    table = dict(source) if isinstance(source, Mapping) else _read_metrics(Path(source))
    shown = [name for name, values in table.items() if name not in NOT_CURVES and not np.isnan(values).all()]
    names = list(columns) if columns is not None else shown
    if missing := [name for name in names if name not in table]:
        raise ReverieError(f"There is no metric {missing[0]!r}; there are {', '.join(sorted(table))}.")
    seeds = len(np.unique(table["seed"]))
    with panels(len(names), width=3.2, height=2.4) as (figure, axes):
        for ax, name in zip(axes, names, strict=True):
            _curve(ax, table["step"], table[name])
            ax.set(title=name, xlabel="environment steps" if "episodes" in table else "updates")
        if seeds > 1:
            figure.suptitle(f"mean and range over {seeds} seeds", x=0.01, ha="left", fontsize=9, color=SOFT)
    return figure


def draw_returns(scores: Scores | Sequence[Scores]) -> "Figure":
    """Every episode's return as a dot, one column a seed; the mean and its 95 % interval over episodes beside them.

    Several scores (of one environment) stand side by side.
    """
    every = [scores] if isinstance(scores, Scores) else list(scores)
    groups = [(one, row) for one in every for row in range(len(one.seeds))]
    with panels(1, width=1.6 + 0.55 * len(groups) + 0.5 * len(every), height=3.4) as (figure, axes):
        ax, centre = axes[0], 0.0
        ticks = []
        for one in every:
            at = centre + np.arange(len(one.seeds))
            _strips(ax, at, one)
            name = one.policy.replace(" ", "\n")
            ticks.append((at.mean(), name if one.step is None else f"{name}\n{_seeds(one.seeds)}"))
            centre = at[-1] + 1.8
        ax.set_xticks([place for place, _ in ticks], [label for _, label in ticks])
        ax.set(ylabel="return", title=every[0].environment)
        ax.grid(False, axis="x")
        figure.supxlabel("dots: episodes; ◆ mean, 95 % over episodes", x=0.01, ha="left", fontsize=8, color=SOFT)
        ax.margins(x=0.12 if len(groups) > 1 else 0.6)
    return figure


def _seeds(seeds: tuple[int, ...]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _strips(ax: "Axes", places: np.ndarray, scores: Scores) -> None:
    jitter = np.random.default_rng(0).uniform(-0.16, 0.16, scores.returns.shape)
    for row, place in enumerate(places):
        returns = scores.returns[row]
        ax.plot(place + jitter[row], returns, "o", color=BLUE, alpha=0.45, markersize=4, markeredgewidth=0)
        ax.plot([place - 0.28, place + 0.28], [returns.mean()] * 2, color=INK, linewidth=1.6, solid_capstyle="butt")
    found = scores.estimates["return"]
    beside = places[-1] + 0.5
    if found.episodes.low is not None and found.episodes.high is not None:
        ax.plot([beside] * 2, [found.episodes.low, found.episodes.high], color=INK, linewidth=1.2)
    ax.plot(beside, found.mean, "D", color=INK, markersize=4.5)


def _curve(ax: "Axes", steps: np.ndarray, values: np.ndarray) -> None:
    """The mean and the range of the values that share a step; NaN where a stage has no such metric."""
    steps, values = steps[~np.isnan(values)], values[~np.isnan(values)]
    at = np.unique(steps)
    rows = [values[steps == step] for step in at]
    low, mean, high = (np.array([f(row) for row in rows]) for f in (np.min, np.mean, np.max))
    if (low < high).any():
        ax.fill_between(at, low, high, color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(at, mean, color=BLUE, linewidth=1.5, marker="o" if len(at) == 1 else None)
    if (low > 0).all() and mean.max() > 50 * mean.min():
        ax.set_yscale("log")
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)


def _read_metrics(path: Path) -> dict[str, np.ndarray]:
    from reverie.training.metrics import Table

    path = path / "metrics.csv" if path.is_dir() else path
    columns = Table(path).as_columns() if path.exists() else {}
    if not columns:
        raise RunError(f"There are no metrics in {str(path)!r}; give a run's folder that has trained a segment.")
    return columns


def grouped_scores(rows: Sequence[Mapping[str, Any]], label: str = "normalised score") -> "Figure":
    """Scores, a panel a data set and a line a method: the mean, its interval, the seeds, a published score.

    Args:
        rows: mappings with `method`, `set`, `by_seed` (the seeds' mean scores), `normalised` (an Estimate as plain
            values: `mean` and `seeds`, which has `low` and `high`), perhaps `published`, and `flat` (False where the
            learning curve is not).
        label: of the scores.
    """
    sets = list(dict.fromkeys(row["set"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    legend = ["◆ mean, 95 % interval; dots: seeds"]
    legend += ["◇ not flat yet"] * any(not row.get("flat", True) for row in rows)
    legend += ["orange: published"] * any(row.get("published") is not None for row in rows)
    with panels(len(sets), width=3.4, height=0.9 + 0.25 * len(methods)) as (figure, axes):
        columns = axes[0].get_gridspec().ncols
        for place, (ax, name) in enumerate(zip(axes, sets, strict=True)):
            for row in (row for row in rows if row["set"] == name):
                y, found = methods.index(row["method"]), row["normalised"]["seeds"]
                ax.plot(row["by_seed"], [y] * len(row["by_seed"]), "o", color=BLUE, alpha=0.35, markersize=4)
                if found["low"] is not None:
                    ax.plot([found["low"], found["high"]], [y, y], color=BLUE, linewidth=2)
                if row.get("published") is not None:
                    ax.plot(row["published"], y, "|", color=DISTINCT[1], markersize=9, markeredgewidth=2)
                face = INK if row.get("flat", True) else "white"
                ax.plot(row["normalised"]["mean"], y, "D", color=INK, markersize=5, markerfacecolor=face)
            ax.set(title=name, xlabel=label, ylim=(len(methods) - 0.5, -0.5))
            ax.set_yticks(range(len(methods)), methods if place % columns == 0 else [""] * len(methods))
            ax.set_xlim(left=min(0, ax.get_xlim()[0]))
        between = ";\n" if columns == 1 else "; "  # what is one panel wide has no room for a line of it
        figure.supxlabel(between.join(legend), x=0.01, ha="left", fontsize=8, color=SOFT)
    return figure


Curve = tuple[np.ndarray, np.ndarray]
"""Updates `[T]` and values `[S, T]`."""


def curves_by_panel(curves: Mapping[str, Mapping[str, Curve]], label: str, unit: str = "updates") -> "Figure":
    """Learning curves, a panel a method and a line a data set: means over seeds, and bands from the lowest to the
    highest. All panels have the same scale of scores.

    Args:
        curves: by method and data set.
        label: of the values.
        unit: what the steps are.
    """
    sets = list(dict.fromkeys(name for each in curves.values() for name in each))
    values = np.concatenate([found.ravel() for each in curves.values() for _, found in each.values()])
    low, high = min(0.0, float(np.nanmin(values))), float(np.nanmax(values))
    margin = 0.04 * (high - low) or 1.0
    with panels(len(curves), width=2.6, height=2.1) as (figure, axes):
        for ax, (method, each) in zip(axes, curves.items(), strict=True):
            for name, (steps, found) in each.items():
                colour = DISTINCT[(1 + sets.index(name)) % len(DISTINCT)]
                steps = steps / 1000
                ax.fill_between(steps, found.min(0), found.max(0), color=colour, alpha=0.15, linewidth=0)
                ax.plot(steps, found.mean(0), color=colour, linewidth=1.5, marker=".", markersize=4, label=name)
            ax.set(title=method, ylim=(low - margin, high + margin), xlim=(0, None))
        figure.supxlabel(f"thousands of {unit}", fontsize=9, color=SOFT)
        figure.supylabel(label, fontsize=9, color=SOFT)
        handles = {line.get_label(): line for ax in axes for line in ax.lines}
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4, fontsize=9)
    return figure


def profiles(found: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], label: str) -> "Figure":
    """Performance profiles, a panel a method, with all the others pale behind it.

    Args:
        found: by method, thresholds, the share of runs above each, and the ends of its band, each `[T]`.
        label: of the scores.
    """
    with panels(len(found), width=2.6, height=2.1) as (figure, axes):
        for ax, (method, (at, share, low, high)) in zip(axes, found.items(), strict=True):
            for x, other, *_ in found.values():
                ax.plot(x, other, color="#d5d9df", linewidth=0.9)
            ax.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0)
            ax.plot(at, share, color=BLUE, linewidth=1.8)
            ax.set(title=method, ylim=(-0.03, 1.03), xlim=(at[0], at[-1]))
        figure.supxlabel(f"{label}; band: 95 %; pale: the other lines", fontsize=9, color=SOFT)
        figure.supylabel("share of runs above", fontsize=9, color=SOFT)
    return figure


def error_by_horizon(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str = "") -> "Figure":
    """Prediction errors over the steps predicted, on a logarithmic scale: medians as lines, quartiles as bands.

    Args:
        curves: by the predictor's name, `low`, `median` and `high` at 1, 2, ... steps.
        title: above the picture.
    """
    with panels(1, width=7.2, height=4.0) as (figure, axes):
        ax = axes[0]
        for (name, curve), colour in zip(curves.items(), cycle(DISTINCT)):
            steps = np.arange(1, len(curve["median"]) + 1)
            ax.fill_between(steps, curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
            ax.plot(steps, curve["median"], color=colour, linewidth=1.8, label=name)
        ax.set(yscale="log", xlabel="steps predicted", ylabel="error, in standard deviations", title=title)
        ax.legend(loc="lower right")
    return figure


def compared_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], xlabel: str, ylabel: str) -> "Figure":
    """Several learning curves in one panel: means over seeds, and bands from the lowest seed to the highest.

    Args:
        curves: by name, steps `[T]` and values `[S, T]`, which may be NaN where there is none.
    """
    with panels(1, width=7.2, height=4.0) as (figure, axes):
        for (name, (steps, values)), colour in zip(curves.items(), cycle(DISTINCT)):
            known = ~np.isnan(values).any(0)
            steps, values = steps[known], values[:, known]
            axes[0].fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
            axes[0].plot(steps, values.mean(0), color=colour, linewidth=1.8, label=f"{name} ({len(values)} seeds)")
        axes[0].set(xlabel=xlabel, ylabel=ylabel)
        axes[0].legend(loc="best")
    return figure


def draw_marginals(real: Dataset, made: Dataset, bins: int = 60) -> "Figure":
    """Every column of the observations and actions, and the rewards: real rows filled, synthetic ones as a line."""
    columns = [
        (f"observation {i}", real.observations[:, i], made.observations[:, i]) for i in range(real.observation_dim)
    ]
    columns += [(f"action {i}", real.actions[:, i], made.actions[:, i]) for i in range(real.action_dim)]
    columns.append(("reward", real.require_rewards(), made.require_rewards()))
    with panels(len(columns), width=1.9, height=1.5) as (figure, axes):
        for ax, (name, one, other) in zip(axes, columns, strict=True):
            low, high = np.percentile(np.concatenate([one, other]), [0.1, 99.9])
            edges = np.linspace(low, high if high > low else low + 1, bins + 1)
            ax.hist(one, edges, density=True, color=BLUE, alpha=0.35)
            ax.hist(other, edges, density=True, color=INK, histtype="step", linewidth=1)
            ax.set_title(name)
            ax.set_yticks([])
        figure.supxlabel("filled: real; line: synthetic", x=0.01, ha="left", fontsize=8, color=SOFT)
    return figure


@contextmanager
def panels(count: int, width: float, height: float) -> Iterator[tuple["Figure", list[Any]]]:
    """A figure of `count` panels of that size in inches, in rows no wider than a page, in this package's style."""
    columns = max(1, min(count, int(PAGE / width)))
    rows = -(-count // columns)
    with page(columns * width, rows * height) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for spare in axes[count:]:
            spare.remove()
        yield figure, list(axes[:count])


@contextmanager
def page(width: float, height: float) -> Iterator["Figure"]:
    """An empty figure of that size in inches, in this package's style."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")
