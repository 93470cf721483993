import itertools

import numpy as np
import pytest

from reverie.environments import MAZES, make
from reverie.environments.pointmaze import GOALS, MULTI
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


@pytest.mark.parametrize("name", MULTI)
def test_paths_are_shortest_and_keep_to_free_neighbours(name):
    maze = MAZES[name]
    distance = _distances(maze.walls)
    for (i, start), (j, goal) in itertools.product(enumerate(maze.free), repeat=2):
        path = maze.path(start, goal)
        assert path[0] == start and path[-1] == goal
        assert len(path) - 1 == distance[i, j]
        assert not any(maze.walls[cell] for cell in path)
        assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in itertools.pairwise(path))


@pytest.mark.parametrize("name", MULTI)
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


D4RL = {
    "pointmaze-umaze": "##### #GOO# ###O# #OOO# #####",
    "pointmaze-medium": "######## #OO##OO# #OO#OOO# ##OOO### #OO#OOO# #O#OO#O# #OOO#OG# ########",
    "pointmaze-large": (
        "############ #OOOO#OOOOO# #O##O#O#O#O# #OOOOOO#OOO# #O####O###O# #OO#O#OOOOO# ##O#O#O#O### #OO#OOO#OGO# "
        "############"
    ),
}
"""Its maps (`d4rl/pointmaze/maze_model.py`), with G where its single task has the goal."""


@pytest.mark.parametrize("name", MULTI)
def test_the_mazes_and_their_single_goals_are_d4rls(name):
    rows = D4RL[name].split()
    assert [row.replace("O", " ").replace("G", " ") for row in rows] == list(MAZES[name].rows)
    goal = next((i, row.index("G")) for i, row in enumerate(rows) if "G" in row)
    single = MAZES[f"{name}-single"]
    assert single.goal == GOALS[name] == goal and MAZES[name].goal is None
    assert (single.rows, single.limit) == (MAZES[name].rows, MAZES[name].limit)


def test_a_single_task_has_its_goal_in_every_episode_and_goes_on_there():
    name = "pointmaze-umaze-single"
    maze, env = MAZES[name], make(name)
    goal, starts = maze.centre(maze.goal), set()
    for seed in range(12):
        observation, info = env.reset(seed=seed)
        assert tuple(observation["desired_goal"]) == goal and not info["success"]
        start = maze.cell(*observation["achieved_goal"])
        assert start != maze.goal
        starts.add(start)
    assert len(starts) > 3
    from reverie.environments import WaypointPolicy

    policy, rewards, truncated = WaypointPolicy(name), [], False
    policy.reset(1)
    while not truncated:
        seen = {key: observation[key][None] for key in ("observation", "desired_goal")}
        observation, reward, terminated, truncated, info = env.step(policy.act(seen)[0])
        assert tuple(observation["desired_goal"]) == goal and not terminated
        assert reward == info["success"] == (np.hypot(*(observation["achieved_goal"] - goal)) <= 0.45)
        rewards.append(reward)
    assert len(rewards) == maze.limit and rewards[-1] == 1 and sum(rewards) > 30


def test_a_seed_fixes_the_start_of_a_single_task():
    (one, _), (two, _) = (make("pointmaze-large-single").reset(seed=4) for _ in range(2))
    np.testing.assert_array_equal(one["observation"], two["observation"])
