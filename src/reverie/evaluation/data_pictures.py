"""A picture of a data set: where it is, what it returns, how long its episodes are, and how it acts.

States are shown as positions where the first two numbers are such, else by their two principal components, and
coloured by their episode's return. At three frequent states, far from one another, the actions of the nearest rows
show whether the data act there in one way or in several.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.data import Dataset
from reverie.data.fields import Field, flatten
from reverie.environments.pointmaze import MAZES
from reverie.evaluation.mazes import draw_walls
from reverie.evaluation.plots import BLUE, INK, PAGE, SOFT, page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROWS = 40_000
"""Rows that a picture is made from at most, evenly spaced."""
SHOWN = 12_000
"""Dots in a panel at most."""
NEAR = 300
"""Rows whose actions are shown at a state."""
DIMENSIONS = 12
"""Action dimensions and frames shown at most."""
MARKS = ("#d9822b", "#2a9d6f", "#8e4fb0")
"""Colours of the frequent states."""
POSITIONS = re.compile(r"(point|ant|humanoid)maze-|antsoccer-", re.IGNORECASE)
"""Environments (OGBench's ids and those of `MAZES`) whose observations begin with x and y."""


@dataclass(frozen=True)
class Sampled:
    """Evenly spaced rows of a data set."""

    rows: np.ndarray
    """Their numbers: int [n]."""
    states: np.ndarray | None
    """The vectors of an observation side by side, standardised: [n, d]; None where it has none."""
    plane: np.ndarray | None
    """What is shown of them: [n, 2], or [n, 1] of a single number."""
    axes: tuple[str, ...]
    """What that is."""
    actions: np.ndarray
    """All agents' side by side: [n, k]."""
    names: tuple[str, ...]
    """Of the k."""


def draw_data(data: Dataset, title: str = "") -> "Figure":
    """The picture of a data set: states, returns, lengths; actions at frequent states; every action dimension.

    Images give a row of frames; several agents' states and actions are laid side by side.
    """
    sampled = sample(data)
    images = _images(data)
    dimensions = min(len(sampled.names), DIMENSIONS)
    per_row = min(dimensions, 6)
    heights = [3.3, *[1.75] * len(images), *([2.75] if sampled.states is not None else []), 1.5 * -(-dimensions // 6)]
    with page(PAGE, sum(heights) + 0.4) as figure:
        figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.06)
        rows: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
        parts = list(np.ravel(rows))
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
        chosen = None
        if sampled.states is not None and sampled.plane is not None:
            chosen = frequent(sampled.states, standardised(sampled.plane))
        _overview(parts.pop(0), data, sampled, chosen)
        for name, image in images.items():
            _frames(parts.pop(0), name, image)
        if chosen is not None:
            _modes(parts.pop(0), sampled, chosen)
        _dimensions(parts.pop(0), sampled, per_row, dimensions)
    return figure


def sample(data: Dataset) -> Sampled:
    """The rows that the picture shows, and their states in a plane."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(ROWS, len(data))).round().astype(int))
    vectors = [
        np.asarray(array[rows], np.float64).reshape(len(rows), -1)
        for array in flatten("observations", data.observations).values()
        if array.dtype == np.float32
    ]
    actions = data.actions[rows].reshape(len(rows), -1)
    names = _action_names(data.action_space)
    if not vectors:
        return Sampled(rows, None, None, (), actions, names)
    raw = np.concatenate(vectors, axis=1)
    states = standardised(raw)
    plane, axes = _plane(data, raw, states)
    return Sampled(rows, states, plane, axes, actions, names)


def standardised(x: np.ndarray, by: np.ndarray | None = None) -> np.ndarray:
    """Each column [n, d] in standard deviations from the mean of the rows `by`, its own if None; 0 where these are
    constant (to rounding)."""
    by = x if by is None else by
    spread = by.std(axis=0)
    varies = spread > 1e-6 * np.maximum(1, np.abs(by).max(axis=0))
    return np.where(varies, (x - by.mean(axis=0)) / np.where(varies, spread, 1), 0.0)


def components(states: np.ndarray, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components [n, count] of centred rows [n, d], and the shares of the variance [count]."""
    left, scale, _ = np.linalg.svd(states, full_matrices=False)
    shares = scale**2 / max(float((scale**2).sum()), 1e-12)
    return (left * scale)[:, :count], shares[:count]


def frequent(states: np.ndarray, plane: np.ndarray, count: int = 3, of: int = 1500) -> np.ndarray:
    """Rows [count] in the densest regions of the states [n, d] that lie apart, also where they are drawn, [n, 2].

    The first is the row nearest to its neighbours, each other one that of those far from the chosen ones; fewer where
    the states do not differ. Both arrays are standardised.
    """
    some = np.unique(np.linspace(0, len(states) - 1, min(of, len(states))).round().astype(int))
    apart, drawn = _distances(states[some]), _distances(plane[some])
    # To the tenth part of the rows: what is merely repeated, such as a start, is no region.
    reach = np.sort(apart, axis=1)[:, max(1, len(some) // 10) - 1]
    chosen: list[int] = []
    left = np.ones(len(some), bool)
    while len(chosen) < count and left.any():
        chosen.append(int(np.flatnonzero(left)[reach[left].argmin()]))
        left &= (apart[chosen[-1]] > 0.7 * np.median(apart)) & (drawn[chosen[-1]] > 0.5 * np.median(drawn))
    return some[chosen]


def _distances(x: np.ndarray) -> np.ndarray:
    squares = (x**2).sum(axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0))


def _plane(data: Dataset, raw: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    if raw.shape[1] == 1:
        return raw, ("observation",)
    if _has_positions(data) or raw.shape[1] == 2:
        return raw[:, :2], ("observation 0", "observation 1")
    plane, shares = components(states)
    return plane, tuple(f"component {i + 1} ({share:.0%})" for i, share in enumerate(shares))


def _environment(data: Dataset) -> str:
    return str(data.attributes.get("environment", ""))


def _maze(data: Dataset) -> Any:
    return next((maze for maze in MAZES.values() if _environment(data) in (maze.name, maze.environment)), None)


def _has_positions(data: Dataset) -> bool:
    return _maze(data) is not None or POSITIONS.match(_environment(data)) is not None


def _action_names(field: Field) -> tuple[str, ...]:
    if field.kind != "agents":
        return tuple(f"action {i}" for i in range(field.shape[0]))
    return tuple(f"agent {agent}, action {i}" for agent in range(field.shape[0]) for i in range(field.shape[1]))


def _images(data: Dataset) -> dict[str, np.ndarray]:
    found = flatten("observations", data.observations)
    return {name.partition("/")[2]: array for name, array in found.items() if array.dtype == np.uint8}


def _overview(part: Any, data: Dataset, sampled: Sampled, chosen: np.ndarray | None) -> None:
    lengths = data.episodes[:, 1] - data.episodes[:, 0]
    returns = None if data.rewards is None else data.returns
    shown = [name for name, there in (("states", chosen is not None), ("returns", returns is not None)) if there]
    widths = {"states": 1.5, "returns": 1, "lengths": 1}
    names = [*shown, "lengths"]
    axes = dict(
        zip(names, np.ravel(part.subplots(1, len(names), width_ratios=[widths[n] for n in names])), strict=True)
    )
    if chosen is not None:
        _states(part, axes["states"], data, sampled, chosen, returns)
    if returns is not None:
        succeeding = f" ({_successes(data)})" if "success" in data.infos else ""
        _histogram(axes["returns"], returns, "returns", f"return{succeeding}")
    _histogram(axes["lengths"], lengths, "episode lengths", "steps")


def _successes(data: Dataset) -> str:
    steps = np.asarray(data.infos["success"], bool).reshape(len(data), -1).any(axis=1)
    solved = np.logical_or.reduceat(steps, data.episodes[:, 0])
    return f"{solved.mean():.0%} of episodes succeed"


def _states(part: Any, ax: "Axes", data: Dataset, sampled: Sampled, chosen: np.ndarray, returns: Any) -> None:
    assert sampled.plane is not None
    plane = sampled.plane if sampled.plane.shape[1] == 2 else np.c_[sampled.plane, sampled.rows]
    every = max(1, -(-len(plane) // SHOWN))
    dots: dict[str, Any] = {"s": 3, "linewidths": 0, "alpha": 0.55, "rasterized": True}
    maze = _maze(data)
    if maze is not None:
        draw_walls(ax, maze)
    if returns is not None and np.ptp(returns) > 0:
        episode = np.searchsorted(data.episodes[:, 1], sampled.rows, side="right")
        # The better episodes on top of the others.
        order = np.argsort(returns[episode], kind="stable")[::every]
        low, high = np.percentile(returns, [1, 99])
        x, y = plane[order].T
        drawn = ax.scatter(x, y, c=returns[episode][order], cmap="viridis", vmin=low, vmax=high, **dots)
        bar = part.colorbar(drawn, ax=ax, pad=0.02, aspect=28)
        bar.set_label("episode's return", fontsize=8)
        bar.outline.set_visible(False)
        bar.solids.set_alpha(1)
    else:
        x, y = plane[::every].T
        ax.scatter(x, y, color=BLUE, **dots)
    for number, (row, colour) in enumerate(zip(chosen, MARKS, strict=False), 1):
        _mark(ax, plane[row], number, colour)
    if maze is None:
        labels = sampled.axes if len(sampled.axes) == 2 else (*sampled.axes, "row")
        ax.set(xlabel=labels[0], ylabel=labels[1])
        if _has_positions(data):
            ax.set_aspect("equal")
    ax.set_title("positions" if _has_positions(data) else "states")


def _mark(ax: "Axes", place: np.ndarray, number: int, colour: str) -> None:
    ax.plot(*place, "o", color=colour, markersize=13, markeredgecolor="white", markeredgewidth=1.3, zorder=5)
    ax.annotate(str(number), tuple(place), ha="center", va="center", fontsize=8, color="white", weight="bold", zorder=6)


def _histogram(ax: "Axes", values: np.ndarray, title: str, label: str) -> None:
    """Of the episodes; where all are alike, or there is one, that value in words."""
    ax.set_title(title)
    if np.ptp(values) == 0:
        what = f"{label}, the one episode" if len(values) == 1 else f"{label}, all {len(values):,} episodes"
        ax.text(0.5, 0.55, f"{values[0]:,.6g}", transform=ax.transAxes, ha="center", fontsize=17, color=BLUE)
        ax.text(0.5, 0.44, what, transform=ax.transAxes, ha="center", fontsize=9, color=SOFT)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        return
    ax.hist(values, bins=min(40, max(8, len(values) // 4)), color=BLUE, alpha=0.75)
    ax.axvline(float(np.mean(values)), color=INK, linewidth=1.2)
    ax.set(xlabel=label, ylabel=f"episodes (of {len(values):,})")
    ax.locator_params(axis="x", nbins=5)


def _frames(part: Any, name: str, image: np.ndarray) -> None:
    """Evenly spaced frames, the last included."""
    rows = np.unique(np.linspace(0, len(image) - 1, 8).round().astype(int))
    for ax, row in zip(np.ravel(part.subplots(1, len(rows))), rows, strict=True):
        # Of several stacked frames' channels those of the last: three, else one.
        frame = image[row][..., -3:] if image.shape[-1] >= 3 else image[row][..., -1]
        ax.imshow(frame, cmap="gray", vmin=0, vmax=255)
        ax.set_title(f"step {row:,}", fontsize=8)
        ax.axis("off")
    part.suptitle(name or "frames", x=0.01, ha="left", fontsize=9, color=SOFT)


def _modes(part: Any, sampled: Sampled, chosen: np.ndarray) -> None:
    """At each chosen state the actions of the nearest rows: the two dimensions that vary most, or the one there is."""
    assert sampled.states is not None
    part.suptitle(
        f"actions of the {min(NEAR, len(sampled.rows)):,} rows nearest to each of the numbered states",
        x=0.01, ha="left", fontsize=9, color=SOFT,
    )  # fmt: skip
    low, high = sampled.actions.min(axis=0), sampled.actions.max(axis=0)
    for number, (ax, row) in enumerate(zip(np.ravel(part.subplots(1, len(chosen))), chosen, strict=True), 1):
        distance = np.linalg.norm(sampled.states - sampled.states[row], axis=1)
        near = sampled.actions[np.argsort(distance, kind="stable")[:NEAR]]
        colour = MARKS[number - 1]
        if near.shape[1] == 1:
            ax.hist(near[:, 0], np.linspace(low[0], high[0] if high[0] > low[0] else low[0] + 1, 41), color=colour)
            ax.set(xlabel=sampled.names[0], yticks=[])
        else:
            first, second = np.sort(np.argsort(-near.std(axis=0), kind="stable")[:2])
            ax.scatter(near[:, first], near[:, second], s=14, color=colour, alpha=0.45, linewidths=0)
            for limits, which in ((ax.set_xlim, first), (ax.set_ylim, second)):
                room = 0.05 * max(high[which] - low[which], 1e-6)
                limits(low[which] - room, high[which] + room)
            ax.set(xlabel=sampled.names[first], ylabel=sampled.names[second])
        ax.set_title(f"state {number}", color=colour, weight="bold")


def _dimensions(part: Any, sampled: Sampled, per_row: int, count: int) -> None:
    """The distribution of each action dimension."""
    more = f", the first {count} of {len(sampled.names)}" if count < len(sampled.names) else ""
    part.suptitle(f"every action dimension, all rows{more}", x=0.01, ha="left", fontsize=9, color=SOFT)
    axes = np.ravel(part.subplots(-(-count // per_row), per_row, squeeze=False))
    for i, ax in enumerate(axes):
        if i >= count:
            ax.remove()
            continue
        ax.hist(sampled.actions[:, i], bins=50, color=BLUE, alpha=0.75)
        ax.set_title(sampled.names[i], fontsize=8)
        ax.set_yticks([])
        ax.locator_params(axis="x", nbins=3)
        ax.tick_params(labelsize=8)
