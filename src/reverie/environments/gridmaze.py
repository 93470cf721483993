"""A maze on a grid whose layout, start and goal belong to the episode: its configuration.

A configuration is an array uint8 `[S, S]` of cells, 0 free, 1 wall, 2 the start and 3 the goal, one of each. What is
said here of many, `[n, S, S]`, is computed for all of them at once. The module is what methods that draw configurations
are given: `encode`, `decode` and `solvable`.
"""

import math
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.environments import drawing
from reverie.errors import ReverieError

FREE, WALL, START, GOAL = range(4)
SIZE = 7
"""Cells along a side, of the registered task."""
FARTHEST = 0.3
"""Displacement of a step, in each direction, in cells."""
GOAL_RADIUS = 0.4
GAP = 1e-3
"""Between a wall and a point that it has stopped."""
LIMIT = 100
"""Steps of an episode."""
MOST_WALLS = 0.5
"""Of random configurations, the largest probability of a wall."""


class GridMaze(drawing.Planar):
    """The task: a point goes from the middle of the start's cell to the goal.

    A position is (row, column) in cells: 0..1 is the first. An action is the displacement, float32 `[2]` in -0.3..0.3;
    walls and the border stop the row's and the column's part each for itself, so that the point slides along them. An
    observation is the position and the goal, both scaled to -1..1, and the cells row by row, 1 for a wall and -1 for
    none: float32 `[4 + S * S]`. The reward is 1 within 0.4 of the middle of the goal's cell, which ends the episode,
    else 0; after 100 steps it is over. The info has `success`.

    A reset draws a configuration of its own (`random_configurations`); `options={"configuration": [S, S]}` says which.
    Raises ReverieError for one of another size, with other cells, or without one start and one goal.
    """

    def __init__(self, size: int = SIZE) -> None:
        self.size = size
        self.view = drawing.View((0, 0), (size, size), upwards=False)
        self.spec = EnvSpec("gridmaze", max_episode_steps=LIMIT)
        self.action_space = Box(-FARTHEST, FARTHEST, (2,), np.float32)
        self.observation_space = Box(-1.0, 1.0, (4 + size * size,), np.float32)
        self.configuration = np.zeros((size, size), np.uint8)
        self.position, self.goal, self.steps = np.zeros(2), np.zeros(2), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        given = (options or {}).get("configuration")
        given = random_configurations(self.np_random, 1, self.size)[0] if given is None else given
        self.configuration = checked(np.asarray(given)[None], self.size)[0]
        self.position, self.goal = (centres(self.configuration[None], what)[0] for what in (START, GOAL))
        self.steps = 0
        return self._seen(), {"success": False}

    def step(self, action: ArrayLike) -> Any:
        displacement = np.clip(np.asarray(action, float), -FARTHEST, FARTHEST)
        self.position = moved(self.configuration[None] == WALL, self.position[None], displacement[None])[0]
        self.steps += 1
        success = math.dist(self.position, self.goal) <= GOAL_RADIUS
        return self._seen(), float(success), success, self.steps >= LIMIT, {"success": success}

    def _seen(self) -> np.ndarray:
        return observed(self.configuration[None], self.position[None])[0]

    @property
    def state(self) -> np.ndarray:
        return self._seen()

    def project(self, states: Any) -> np.ndarray:
        rows, columns = np.moveaxis((np.asarray(states, float)[..., :2] + 1) * self.size / 2, -1, 0)
        return self.view.pixels(np.stack([columns, rows], -1)[..., None, :])

    def shapes(self) -> list[drawing.Disc | drawing.Polygon]:
        walls = [drawing.square((j, i), 1, drawing.OBSTACLE) for i, j in np.argwhere(self.configuration == WALL)]
        goal = drawing.Disc(self.goal[::-1], GOAL_RADIUS, drawing.GOAL)
        return [*walls, goal, drawing.Disc(self.position[::-1], 0.15, drawing.AGENT)]


def observed(configurations: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Observations `[n, 4 + S * S]` at positions `[n, 2]`."""
    places = np.concatenate([positions, centres(configurations, GOAL)], 1) * 2 / configurations.shape[-1] - 1
    walls = np.where(configurations == WALL, 1.0, -1.0).reshape(len(positions), -1)
    return np.concatenate([places, walls], 1).astype(np.float32)


def moved(walls: np.ndarray, positions: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Where points `[n, 2]` are after displacements of less than a cell `[n, 2]` among walls (bool) `[n, S, S]`."""
    rows, positions, size = np.arange(len(positions)), positions.copy(), walls.shape[-1]
    for axis in (0, 1):
        here, there = positions[:, axis], positions[:, axis] + displacements[:, axis]
        cells = np.floor(positions).astype(int)
        cells[:, axis] = np.floor(there)
        outside = (cells[:, axis] < 0) | (cells[:, axis] >= size)
        cells = cells.clip(0, size - 1)
        edge = np.where(displacements[:, axis] > 0, np.floor(here) + 1 - GAP, np.floor(here) + GAP)
        positions[:, axis] = np.where(outside | walls[rows, cells[:, 0], cells[:, 1]], edge, there)
    return positions


def cells_of(configurations: np.ndarray, what: int) -> np.ndarray:
    """(row, column) of the start or the goal: int `[n, 2]`."""
    size = configurations.shape[-1]
    return np.stack(np.divmod((configurations == what).reshape(-1, size * size).argmax(1), size), 1)


def centres(configurations: np.ndarray, what: int) -> np.ndarray:
    """The middle of its cell: `[n, 2]`."""
    return cells_of(configurations, what) + 0.5


def distance_maps(configurations: np.ndarray) -> np.ndarray:
    """The fewest cells, up, down, left or right, from each one to the goal: int `[n, S, S]`; -1 where no way leads
    there, and for walls."""
    reached, distances = configurations == GOAL, np.where(configurations == GOAL, 0, -1)
    for steps in range(1, configurations[0].size):
        wide = np.pad(reached, ((0, 0), (1, 1), (1, 1)))
        beside = wide[:, 2:, 1:-1] | wide[:, :-2, 1:-1] | wide[:, 1:-1, 2:] | wide[:, 1:-1, :-2]
        new = beside & ~reached & (configurations != WALL)
        if not new.any():
            break
        distances[new] = steps
        reached |= new
    return distances


def path_lengths(configurations: np.ndarray) -> np.ndarray:
    """Of the shortest ways from start to goal, in cells: int `[n]`; -1 where there is none."""
    at = cells_of(configurations, START)
    return distance_maps(configurations)[np.arange(len(at)), at[:, 0], at[:, 1]]


def solvable(configurations: np.ndarray) -> np.ndarray:
    """Whether there is a way: bool `[n]`."""
    return path_lengths(configurations) > 0


def shortest_way(configuration: np.ndarray) -> np.ndarray:
    """The cells of one from start to goal, both included: int `[length + 1, 2]`. Raises ReverieError where there is
    none."""
    distances = distance_maps(configuration[None])[0]
    way = [tuple(cells_of(configuration[None], START)[0].tolist())]
    if distances[way[0]] < 0:
        raise ReverieError(f"No way leads from the start at {way[0]} to the goal; give a solvable configuration.")
    while distances[way[-1]]:
        row, column = way[-1]
        around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
        inside = [cell for cell in around if min(cell) >= 0 and max(cell) < len(distances)]
        way.append(next(cell for cell in inside if distances[cell] == distances[way[-1]] - 1))
    return np.array(way)


def random_configurations(rng: np.random.Generator, n: int, size: int = SIZE) -> np.ndarray:
    """Solvable ones `[n, size, size]`: of each the probability of a wall is drawn, from 0 to a half, then walls, start
    and goal; those without a way are drawn anew."""
    found = np.zeros((0, size, size), np.uint8)
    while len(found) < n:
        count = 2 * (n - len(found)) + 8
        cells = (rng.random((count, size * size)) < rng.uniform(0, MOST_WALLS, (count, 1))).astype(np.uint8)
        ends = rng.random((count, size * size)).argsort(1)[:, :2]
        np.put_along_axis(cells, ends, np.array([[START, GOAL]], np.uint8), 1)
        cells = cells.reshape(count, size, size)
        found = np.concatenate([found, cells[solvable(cells)]])
    return found[:n]


def encode(configurations: np.ndarray) -> np.ndarray:
    """Vectors in -1..1: the cells, 1 for a wall and -1 for none, then row and column of the start, and of the goal:
    float32 `[n, S * S + 4]`."""
    walls = np.where(configurations == WALL, 1.0, -1.0).reshape(len(configurations), -1)
    ends = [scaled(cells_of(configurations, what), configurations.shape[-1]) for what in (START, GOAL)]
    return np.concatenate([walls, *ends], 1).astype(np.float32)


def scaled(cells: np.ndarray, size: int) -> np.ndarray:
    """Rows and columns, of which the first is -1 and the last 1."""
    return cells * 2 / max(size - 1, 1) - 1


def decode(x: np.ndarray) -> np.ndarray:
    """The nearest configurations of vectors `[n, S * S + 4]`: walls where they are above 0, the start and the goal in
    the nearest cells, the goal in another than the start; both are free. Raises ReverieError for vectors of a length
    that no grid has."""
    size = math.isqrt(max(x.shape[-1] - 4, 0))
    if size < 2 or size * size + 4 != x.shape[-1]:
        raise ReverieError(f"Vectors of {x.shape[-1]} numbers are no grids: give S^2 + 4, such as {SIZE**2 + 4}.")
    places = scaled(np.stack(np.divmod(np.arange(size * size), size), 1), size)
    start, goal = (np.square(x[:, None, -k : x.shape[-1] - k + 2] - places).sum(-1) for k in (4, 2))
    cells, rows = (x[:, :-4] > 0).astype(np.uint8), np.arange(len(x))
    begun = start.argmin(1)
    goal[rows, begun] = np.inf
    cells[rows, begun], cells[rows, goal.argmin(1)] = START, GOAL
    return cells.reshape(len(x), size, size)


def checked(configurations: np.ndarray, size: int | None = None) -> np.ndarray:
    """The configurations as uint8. Raises ReverieError for another shape than `[n, size, size]` (any size if None),
    other cells than 0 to 3, and where there is not one start and one goal."""
    wanted = size or configurations.shape[-1]
    if configurations.ndim != 3 or configurations.shape[1:] != (wanted, wanted):
        raise ReverieError(f"A configuration of {list(configurations.shape[1:])} cells must have {[wanted, wanted]}.")
    if unknown := set(np.unique(configurations)) - {FREE, WALL, START, GOAL}:
        raise ReverieError(f"A cell is {min(unknown)}; it must be 0 (free), 1 (wall), 2 (start) or 3 (goal).")
    for name, what in (("start", START), ("goal", GOAL)):
        counts = (configurations == what).sum((1, 2))
        if (counts != 1).any():
            raise ReverieError(f"A configuration has {counts[counts != 1][0]} cells of a {name}; it must have 1.")
    return configurations.astype(np.uint8)
