"""A maze of OGBench: its cells, the shortest ways, and what the recipe draws in it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

Cell = tuple[int, int]
Position = tuple[float, float]

UNIT = 4.0
"""A cell's width, in m."""
NOISE = 1.0
"""Starts and goals lie within this distance in m of a cell's centre, in x and in y, drawn uniformly."""
STITCH = 4
"""Steps from cell to cell between start and goal in the stitch sets."""
NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1))
"""In the order in which the package's oracle looks at them."""


@dataclass(frozen=True, eq=False)
class Course:
    """A cell is (row, column); x grows with the column and y with the row, and (0, 0) is the centre of cell (1, 1)."""

    walls: np.ndarray
    """[rows, columns] bool; the outermost cells are walls."""
    unit: ClassVar[float] = UNIT
    """A cell's width, in m."""

    @classmethod
    def of(cls, env: Any) -> "Course":
        return cls(np.asarray(env.unwrapped.maze_map) != 0)

    @cached_property
    def free(self) -> list[Cell]:
        return [(int(i), int(j)) for i, j in np.argwhere(~self.walls)]

    @cached_property
    def vertices(self) -> list[Cell]:
        """The free cells that are not within a straight corridor: where goals of the navigate sets lie."""
        return [cell for cell in self.free if not self._in_corridor(cell)]

    def _in_corridor(self, cell: Cell) -> bool:
        above, left, below, right = (bool(self.walls[cell[0] + i, cell[1] + j]) for i, j in NEIGHBOURS)
        return (above, below, left, right) in ((False, False, True, True), (True, True, False, False))

    def centre(self, cell: Cell) -> Position:
        """In m."""
        return cell[1] * UNIT - UNIT, cell[0] * UNIT - UNIT

    def cell(self, x: float, y: float) -> Cell:
        """That holds a position."""
        return int((y + 1.5 * UNIT) / UNIT), int((x + 1.5 * UNIT) / UNIT)

    def distances(self, goal: Cell) -> np.ndarray:
        """Steps from every cell to the goal, over the cells' sides: int [rows, columns], -1 where there is no way."""
        found, queue = np.full(self.walls.shape, -1), deque([goal])
        found[goal] = 0
        while queue:
            i, j = queue.popleft()
            for near in self._beside((i, j)):
                if found[near] < 0:
                    found[near] = found[i, j] + 1
                    queue.append(near)
        return found

    def _beside(self, cell: Cell) -> list[Cell]:
        """The free cells that share a side with it."""
        rows, columns = self.walls.shape
        near = [(cell[0] + i, cell[1] + j) for i, j in NEIGHBOURS]
        return [(i, j) for i, j in near if 0 <= i < rows and 0 <= j < columns and not self.walls[i, j]]

    @cached_property
    def ways(self) -> dict[Cell, dict[Cell, Position]]:
        """By goal and by where one is: the centre of the next cell of a shortest way; of the cell itself where it is
        the goal or there is no way. All of OGBench's oracle, whose search is made once here."""
        return {goal: self._ways_to(goal) for goal in np.ndindex(*self.walls.shape)}

    def _ways_to(self, goal: Cell) -> dict[Cell, Position]:
        steps = self.distances(goal)
        found = {}
        for cell in np.ndindex(*self.walls.shape):
            best = cell
            for near in self._beside(cell):
                best = near if steps[near] < steps[best] else best
            found[cell] = self.centre(best)
        return found

    def direction(self, x: float, y: float, goal: Position) -> Position:
        """Of length 1 (0 at its end): towards the next cell's centre."""
        u, v = self.ways[self.cell(*goal)][self.cell(x, y)]
        dx, dy = u - x, v - y
        length = (dx * dx + dy * dy) ** 0.5 + 1e-6
        return dx / length, dy / length

    def near(self, start: Cell) -> list[Cell]:
        """The goals of the stitch sets: the cells `STITCH` steps away; the start itself where there is none."""
        found = np.argwhere(self.distances(start) == STITCH)
        return [(int(i), int(j)) for i, j in found] or [start]

    @cached_property
    def nearby(self) -> dict[Cell, list[Cell]]:
        return {cell: self.near(cell) for cell in self.free}

    def draw(self, cells: Sequence[Cell], rng: np.random.Generator) -> tuple[Cell, Position]:
        """One of the cells, and a position in it."""
        cell = cells[int(rng.integers(len(cells)))]
        x, y = self.centre(cell)
        dx, dy = rng.uniform(-NOISE, NOISE, 2).tolist()
        return cell, (x + dx, y + dy)

    def draw_trip(self, kind: str, rng: np.random.Generator) -> tuple[Position, Position]:
        """Where an episode of a navigate or stitch set starts, in any free cell, and its (first) goal."""
        cell, start = self.draw(self.free, rng)
        return start, self.draw(self.nearby[cell] if kind == "stitch" else self.vertices, rng)[1]
