"""Pictures of mazes: what moves in them, plans being denoised, plans beside the paths driven."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.environments.pointmaze import Maze, find_maze
from reverie.errors import ReverieError
from reverie.evaluation.plots import DISTINCT, INK, SOFT, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WALL = "#d5d9e0"
CHUNKS = (*DISTINCT[1:], "#1aa6b7")
"""Colours of chunks, in order, again and again."""
TIME = "plasma"
"""Colours along a plan, dark at its start; the palest tenth of the map is left out."""


def draw_maze(
    maze: str | Maze,
    paths: Sequence[np.ndarray] = (),
    start: Sequence[float] | None = None,
    goal: Sequence[float] | None = None,
    title: str = "",
) -> "Figure":
    """A maze from above with paths or plans in it, coloured by time.

    Args:
        maze: its name, or itself.
        paths: arrays [T, 2] or wider, of which the first two columns are x and y in m.
        start, goal: (x, y) in m.
        title: above the picture.
    """
    maze = find_maze(maze) if isinstance(maze, str) else maze
    height, width = maze.walls.shape
    cell = max(0.42, 3.2 / height)
    with panels(1, width=cell * width + 0.8, height=cell * height + 0.3) as (figure, axes):
        draw_walls(axes[0], maze, paths, start, goal)
        axes[0].set_title(title)
        if len(paths):
            _time_bar(figure, axes, "time along the path")
    return figure


def draw_denoising(
    maze: str | Maze,
    plans: Sequence[np.ndarray],
    levels: Sequence[float],
    start: Sequence[float] | None = None,
    goal: Sequence[float] | None = None,
) -> "Figure":
    """One plan at several noise levels side by side, coloured by the time along the plan.

    Args:
        maze: its name, or itself.
        plans: arrays [H, 2] or wider, x and y in m, from the noisiest to the cleanest. What lies outside is cut.
        levels: the diffusion time t in [0, 1] of each plan.
        start, goal: (x, y) in m.

    Raises:
        ReverieError: plans and levels of different number.
    """
    if len(plans) != len(levels):
        raise ReverieError(f"There are {len(plans)} plans and {len(levels)} levels; give one level a plan.")
    maze = find_maze(maze) if isinstance(maze, str) else maze
    height, width = maze.walls.shape
    cell = max(0.27, 1.9 / height)
    with panels(len(plans), width=cell * width, height=cell * height + 0.35) as (figure, axes):
        for ax, plan, level in zip(axes, plans, levels, strict=True):
            draw_walls(ax, maze, [plan], start, goal, dots=True)
            ax.set_title(f"t = {level:.2f}")
        _time_bar(figure, axes, "time along the plan")
    return figure


def draw_driven(maze: str | Maze, plans: Sequence[np.ndarray], paths: Sequence[np.ndarray]) -> "Figure":
    """Plans as dots and the paths then driven as lines, one panel each, coloured by time.

    Args:
        maze: its name, or itself.
        plans, paths: arrays [H, 2] and [T, 2] or wider, x and y in m; as many of one as of the other. A plan's first
            and last rows are marked as start and goal.
    """
    maze = find_maze(maze) if isinstance(maze, str) else maze
    height, width = maze.walls.shape
    cell = max(0.3, 2.3 / height)
    with panels(len(plans), width=cell * width, height=cell * height + 0.1) as (figure, axes):
        for ax, plan, path in zip(axes, plans, paths, strict=True):
            draw_walls(ax, maze, [path], plan[0], plan[-1])
            ax.scatter(plan[:, 0], plan[:, 1], s=12, facecolor="white", edgecolor=INK, linewidths=0.7, zorder=3)
        _time_bar(figure, axes, "time along the path")
        figure.supxlabel("dots: the plan; line: the path driven", x=0.01, ha="left", fontsize=8, color=SOFT)
    return figure


def draw_composed(maze: Any, chunks: Sequence[np.ndarray], path: np.ndarray | None = None, title: str = "") -> "Figure":
    """A way made of chunks, each in a colour of its own, that overlap: where two colours lie side by side, neighbours
    disagree.

    Args:
        maze: its name, or itself: anything with `walls`, `centre(cell)` and a cell's width, `unit`.
        chunks: arrays [H, 2] or wider, x and y in m, from the start to the goal: the first one's first row and the last
            one's last are marked.
        path: where one then went, [T, 2] or wider; a thin line.
        title: above the picture.

    Raises:
        ReverieError: no chunk.
    """
    if not len(chunks):
        raise ReverieError("There are 0 chunks to draw; give at least one.")
    maze = find_maze(maze) if isinstance(maze, str) else maze
    height, width = maze.walls.shape
    cell = max(0.42, 3.2 / height)
    with panels(1, width=cell * width, height=cell * height + 0.3) as (_, axes):
        ax = axes[0]
        draw_walls(ax, maze, start=chunks[0][0], goal=chunks[-1][-1])
        if path is not None:
            ax.plot(*np.asarray(path)[:, :2].T, color=INK, linewidth=0.9, alpha=0.6, zorder=2)
        for k, chunk in enumerate(chunks):
            x, y = np.asarray(chunk)[:, :2].T
            ax.plot(x, y, "o-", color=CHUNKS[k % len(CHUNKS)], markersize=3.2, linewidth=1.6, alpha=0.85, zorder=3)
        ax.set_title(title)
    return ax.figure


def draw_walls(ax: "Axes", maze: Any, paths=(), start=None, goal=None, dots: bool = False) -> None:
    """Walls (the outer ones at half their width), then paths, then start and goal on top."""
    from matplotlib.patches import Rectangle

    unit = maze.unit
    for row, column in np.argwhere(maze.walls):
        x, y = maze.centre((int(row), int(column)))
        place = (x - unit / 2, y - unit / 2)
        ax.add_patch(Rectangle(place, unit, unit, facecolor=WALL, edgecolor=WALL, linewidth=0.4))
    for path in paths:
        _coloured_line(ax, np.asarray(path)[:, :2], dots)
    white: dict[str, Any] = {"markeredgecolor": "white", "zorder": 4}
    if start is not None:
        ax.plot(*start[:2], "o", color=INK, markersize=8, markeredgewidth=1.2, **white)
    if goal is not None:
        ax.plot(*goal[:2], "*", color="#c0392b", markersize=15, markeredgewidth=0.9, **white)
    (left, y), (right, other) = (maze.centre(cell) for cell in ((0, 0), np.subtract(maze.walls.shape, 1).tolist()))
    ax.set(xlim=(left, right), ylim=sorted((y, other)), aspect="equal")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _coloured_line(ax: "Axes", path: np.ndarray, dots: bool) -> None:
    from matplotlib.collections import LineCollection

    time = np.linspace(0, 1, len(path))
    pieces = LineCollection(
        list(np.stack([path[:-1], path[1:]], axis=1)),
        cmap=_time_map(),
        array=time[:-1],
        linewidths=0.8 if dots else 2.2,
        alpha=0.3 if dots else 1.0,
        capstyle="round",
    )
    ax.add_collection(pieces)
    if dots:
        ax.scatter(path[:, 0], path[:, 1], c=time, cmap=_time_map(), s=9, linewidths=0, zorder=3)


def _time_map():
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[TIME](np.linspace(0, 0.9, 256)))


def _time_bar(figure: "Figure", axes: list, label: str) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(cmap=_time_map()), ax=axes, shrink=0.8, aspect=22, pad=0.02)
    bar.set_ticks([0, 1], labels=["start", "end"])
    bar.set_label(label, fontsize=9, labelpad=-14)
    bar.outline.set_visible(False)  # type: ignore[operator]
