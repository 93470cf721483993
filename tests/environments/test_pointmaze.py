import itertools

import numpy as np
import pytest

from reverie.environments import MAZES, make
from reverie.errors import ReverieError

pytest.importorskip("gymnasium_robotics")


def _distances(walls: np.ndarray) -> np.ndarray:
    """All shortest distances between cells, by Floyd and Warshall: a brute force unlike the search under test."""
    cells = np.argwhere(~walls)
    apart = np.abs(cells[:, None] - cells[None]).sum(-1)
    distance = np.where(apart <= 1, apart, np.inf).astype(float)
    for k in range(len(cells)):
        distance = np.minimum(distance, distance[:, k, None] + distance[None, k])
    return distance


@pytest.mark.parametrize("name", MAZES)
def test_paths_are_shortest_and_keep_to_free_neighbours(name):
    maze = MAZES[name]
    distance = _distances(maze.walls)
    for (i, start), (j, goal) in itertools.product(enumerate(maze.free), repeat=2):
        path = maze.path(start, goal)
        assert path[0] == start and path[-1] == goal
        assert len(path) - 1 == distance[i, j]
        assert not any(maze.walls[cell] for cell in path)
        assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("name", MAZES)
def test_geometry_is_the_simulators(name):
    maze, env = MAZES[name], make(name)
    theirs = env.unwrapped.maze
    assert np.array_equal(maze.walls, np.array(theirs.maze_map) == 1)
    assert env.spec.max_episode_steps == maze.limit
    for cell in maze.free:
        assert maze.centre(cell) == tuple(theirs.cell_rowcol_to_xy(np.array(cell)))
        assert maze.cell(*maze.centre(cell)) == cell


def test_a_position_in_a_wall_is_refused():
    with pytest.raises(ReverieError, match=r"\(0.00, 0.00\) is not in a free cell of pointmaze-umaze"):
        MAZES["pointmaze-umaze"].cell(0.0, 0.0)
