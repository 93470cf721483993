"""The point mazes: their geometry, and a controller that solves them.

The simulator is gymnasium-robotics' `PointMaze_*-v3`: a ball of radius 0.1 m and 4.19 kg that slides in the plane,
pushed by a force of at most 100 N in each direction (action 1), sampled every 0.01 s. The observation is (x, y, vx, vy)
in m and m/s, a cell is 1 m wide and the goal counts as reached within 0.45 m of it.

The mazes are D4RL's, cell by cell (its maps U_MAZE, MEDIUM_MAZE and LARGE_MAZE), turned by a right angle: D4RL's
first coordinate counts rows and its second columns, so that its cell (i, j) is `Maze.centre((i, j))` here. In its
single tasks (maze2d-umaze, -medium, -large) the goal is always the cell (1, 1), (6, 6) or (7, 9); those are the mazes
named `-single`. Its "multi-task" variant in Diffuser's paper (Janner et al. 2022, section 5.1) draws another goal every
episode, as the mazes without that name do.

Data are collected in them by `reverie.collection.pointmaze`.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from reverie.errors import ReverieError

GOAL_RADIUS = 0.45
"""Distance in m within which the environment pays its reward of 1."""

GOAL_NOISE = 0.25
"""Goals and starts lie within this distance in m of a cell's centre, in x and in y, drawn uniformly."""

SPEED_LIMIT = 5.0
"""The environment clips the velocity to this many m/s in each direction before a step."""

Cell = tuple[int, int]
Position = tuple[float, float]
State = tuple[float, float, float, float]


@dataclass(frozen=True)
class Maze:
    """The geometry of one maze. A cell is (row, column), row 0 on top; the origin is the maze's centre, y points up."""

    name: str
    environment: str
    """The id in gymnasium."""
    limit: int
    """Steps after which the environment truncates an episode."""
    rows: tuple[str, ...]
    """`#` is a wall, anything else is free."""
    goal: Cell | None = None
    """The cell in whose centre the goal always is; None where every episode draws one."""
    unit: ClassVar[float] = 1.0
    """A cell's width, in m."""

    @cached_property
    def walls(self) -> np.ndarray:
        """[rows, columns] bool."""
        return np.array([[mark == "#" for mark in row] for row in self.rows])

    @cached_property
    def free(self) -> tuple[Cell, ...]:
        """All cells without a wall, row by row."""
        return tuple((int(i), int(j)) for i, j in np.argwhere(~self.walls))

    def centre(self, cell: Cell) -> Position:
        """The (x, y) of a cell's centre, in m."""
        height, width = self.walls.shape
        return cell[1] + 0.5 - width / 2, height / 2 - cell[0] - 0.5

    def cell(self, x: float, y: float) -> Cell:
        """The cell that holds a position; raises `ReverieError` when it lies outside the maze or in a wall."""
        height, width = self.walls.shape
        row, column = math.floor(height / 2 - y), math.floor(x + width / 2)
        if not (0 <= row < height and 0 <= column < width) or self.walls[row, column]:
            raise ReverieError(f"({x:.2f}, {y:.2f}) is not in a free cell of {self.name}.")
        return row, column

    @cached_property
    def _steps_to(self) -> dict[Cell, dict[Cell, Cell]]:
        """For each goal, the next cell on a shortest way from every cell."""
        return {goal: self._next_cells(goal) for goal in self.free}

    def _next_cells(self, goal: Cell) -> dict[Cell, Cell]:
        """Breadth-first search from the goal outwards: each cell remembers who found it."""
        found, queue = {goal: goal}, deque([goal])
        while queue:
            row, column = here = queue.popleft()
            for neighbour in ((row - 1, column), (row, column - 1), (row, column + 1), (row + 1, column)):
                if not self.walls[neighbour] and neighbour not in found:
                    found[neighbour] = here
                    queue.append(neighbour)
        return found

    def path(self, start: Cell, goal: Cell) -> list[Cell]:
        """A shortest path over free cells sharing an edge, both ends included."""
        step, path = self._steps_to[goal], [start]
        while path[-1] != goal:
            path.append(step[path[-1]])
        return path


MULTI = {
    maze.name: maze
    for maze in (
        Maze("pointmaze-umaze", "PointMaze_UMaze-v3", 300, ("#####", "#   #", "### #", "#   #", "#####")),
        Maze(
            "pointmaze-medium",
            "PointMaze_Medium-v3",
            600,
            ("########", "#  ##  #", "#  #   #", "##   ###", "#  #   #", "# #  # #", "#   #  #", "########"),
        ),
        Maze(
            "pointmaze-large",
            "PointMaze_Large-v3",
            800,
            (
                "############",
                "#    #     #",
                "# ## # # # #",
                "#      #   #",
                "# #### ### #",
                "#  # #     #",
                "## # # # ###",
                "#  #   #   #",
                "############",
            ),
        ),
    )
}
"""Those in which every episode has another goal."""

GOALS = {"pointmaze-umaze": (1, 1), "pointmaze-medium": (6, 6), "pointmaze-large": (7, 9)}
"""The cells of D4RL's single tasks."""

MAZES = MULTI | {
    f"{name}-single": replace(MULTI[name], name=f"{name}-single", goal=goal) for name, goal in GOALS.items()
}


def find_maze(name: str) -> Maze:
    """The maze of that name; raises `ReverieError` with the known names otherwise."""
    if name not in MAZES:
        raise ReverieError(f"{name!r} is no maze; the mazes are {', '.join(MAZES)}.")
    return MAZES[name]


@dataclass(frozen=True)
class Settings:
    """The way-point controller and its noise. The values are those of D4RL's generator of maze2d data."""

    kp: float = 10.0
    """Action per m of distance to the way point."""
    kd: float = 1.0
    """Action per m/s of velocity, against it."""
    reach: float = 0.1
    """Distance in m within which a way point, and at last the goal, counts as reached."""
    noise: float = 0.5
    """Standard deviation of the Gaussian noise added to each component of an action, before clipping to [-1, 1]."""
    jitter: float = 0.1
    """Way points between start and goal lie within this distance in m of their cell's centre, in x and in y."""


class WaypointController:
    """Walks the shortest path cell by cell: PD control towards the next cell's centre, at last towards the goal.

    Stateful: it keeps the way points still ahead, and plans anew whenever the goal changes. Without noise of its own;
    `rng` only draws the jitter of the way points (none: exactly the centres).
    """

    def __init__(self, maze: Maze, settings: Settings, rng: np.random.Generator | None = None):
        self.maze, self.settings, self.rng = maze, settings, rng
        self.goal: Position | None = None
        self.ahead: list[Position] = []

    def _plan(self, x: float, y: float, goal: Position) -> None:
        cells = self.maze.path(self.maze.cell(x, y), self.maze.cell(*goal))
        ways = np.array([self.maze.centre(cell) for cell in cells[1:-1]]).reshape(-1, 2)
        if self.rng is not None:
            ways = ways + self.rng.uniform(-self.settings.jitter, self.settings.jitter, ways.shape)
        self.goal, self.ahead = goal, [goal, *reversed([(float(u), float(v)) for u, v in ways])]

    def action(self, state: State, goal: Position) -> Position:
        """The push towards the next way point, not clipped. The state is (x, y, vx, vy)."""
        x, y, vx, vy = state
        if goal != self.goal:
            self._plan(x, y, goal)
        ahead, settings = self.ahead, self.settings
        dx, dy = ahead[-1][0] - x, ahead[-1][1] - y
        if len(ahead) > 1 and dx * dx + dy * dy < settings.reach**2:
            ahead.pop()
            dx, dy = ahead[-1][0] - x, ahead[-1][1] - y
        return settings.kp * dx - settings.kd * vx, settings.kp * dy - settings.kd * vy
