"""Goals that can be reached: those in the mazes' free cells."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from reverie.environments.pointmaze import MAZES
from reverie.environments.registry import OGBENCH, make
from reverie.errors import ReverieError


def check_goal(environment: str, position: Sequence[float]) -> None:
    """Raise ReverieError where a goal, (x, y) in m, lies in a wall or outside of the environment's maze.

    Of an environment that is no maze, or whose simulator is not installed, any will do.
    """
    x, y = float(position[0]), float(position[1])
    if not _is_free(environment, x, y):
        raise ReverieError(
            f"The goal ({x:.2f}, {y:.2f}) is in a wall of {environment} or outside of it; give one in a free cell."
        )


def _is_free(environment: str, x: float, y: float) -> bool:
    for maze in MAZES.values():
        if environment in (maze.name, maze.environment):
            try:
                maze.cell(x, y)
            except ReverieError:
                return False
            return True
    maze = _ogbench(environment)
    if maze is None:
        return True
    i, j = maze.xy_to_ij((x, y))
    rows, columns = maze.maze_map.shape
    return 0 <= i < rows and 0 <= j < columns and maze.maze_map[i, j] == 0


@lru_cache(maxsize=8)
def _ogbench(environment: str) -> Any:
    """OGBench's own maze, which knows its walls; None where there is none."""
    if not OGBENCH.fullmatch(environment) or "maze" not in environment:
        return None
    try:
        return make(environment).unwrapped
    except ReverieError:
        return None
