import numpy as np
import pytest

from reverie.collection import DATASETS, make_dataset
from reverie.collection.pointmaze import Point, PointMaze, draw_goal
from reverie.environments import MAZES, make
from reverie.environments.pointmaze import GOAL_RADIUS, MULTI, Settings, WaypointController
from reverie.errors import DataError, ReverieError

pytest.importorskip("gymnasium_robotics")


def test_the_fast_point_moves_as_the_environment():
    """Through walls' contacts and the speed limit too: pushes are held for 40 steps."""
    env = make("pointmaze-umaze")
    observation, _ = env.reset(seed=3)
    point = Point(MAZES["pointmaze-umaze"], tuple(observation["observation"][:2]))
    pushes = np.random.default_rng(0).uniform(-1, 1, (7, 2)).repeat(40, axis=0)
    fastest = 0.0
    for push in pushes:
        state = point.step(tuple(push))
        observation, *_ = env.step(push)
        fastest = max(fastest, np.abs(state[2:]).max())
        np.testing.assert_allclose(state, observation["observation"], atol=1e-6)
    assert fastest > 3


def test_the_controller_reaches_twenty_random_goals():
    maze, rng = MAZES["pointmaze-umaze"], np.random.default_rng(1)
    state = (*maze.centre(maze.free[0]), 0.0, 0.0)
    point, controller = Point(maze, state[:2]), WaypointController(maze, Settings())
    for _ in range(20):
        goal = draw_goal(maze, rng, *state[:2])
        for _ in range(maze.limit):
            state = point.step(tuple(np.clip(controller.action(state, goal), -1, 1)))
            if np.hypot(state[0] - goal[0], state[1] - goal[1]) < 0.1:
                break
        else:
            pytest.fail(f"goal {goal} not reached from {state}")


@pytest.fixture(scope="module")
def data():
    return make_dataset("pointmaze-umaze", steps=12_345, seed=4)


def test_the_ball_is_never_reset(data):
    """Each step moves by the velocity after it times 0.01 s, at every row and so across goals as well."""
    assert len(data) == 12_345 and len(data.episodes) == 1
    np.testing.assert_array_equal(data.next_observations[:-1], data.observations[1:])
    moved = data.next_observations[:, :2] - data.observations[:, :2]
    np.testing.assert_allclose(moved, 0.01 * data.next_observations[:, 2:], atol=2e-6)


def test_the_goal_changes_exactly_where_it_is_reached(data):
    distance = np.linalg.norm(data.next_observations[:, :2] - data.infos["goal"], axis=1)
    changes = (data.infos["goal"][1:] != data.infos["goal"][:-1]).any(axis=1)
    np.testing.assert_array_equal(changes, (distance <= 0.1)[:-1])
    assert changes.sum() > 50


def test_the_rewards_agree_with_the_distance(data):
    distance = np.linalg.norm(data.next_observations[:, :2] - data.infos["goal"], axis=1)
    clear = np.abs(distance - GOAL_RADIUS) > 1e-5
    np.testing.assert_array_equal(data.rewards[clear], (distance <= GOAL_RADIUS)[clear])
    assert 0 < data.rewards.mean() < 1


def test_the_rewards_are_the_environments(data):
    env = make("pointmaze-umaze").unwrapped
    rewards = env.compute_reward(data.next_observations[:, :2], data.infos["goal"], {})
    assert (rewards != data.rewards).mean() < 1e-3  # float32 on the edge of the radius


def test_a_single_task_is_the_same_walk_with_that_goals_rewards(data):
    single, goal = make_dataset("pointmaze-umaze-single", steps=12_345, seed=4), MAZES["pointmaze-umaze"].centre((1, 1))
    np.testing.assert_array_equal(single.observations, data.observations)
    np.testing.assert_array_equal(single.infos["goal"], np.full((12_345, 2), goal, np.float32))
    distance = np.linalg.norm(single.next_observations[:, :2] - goal, axis=1)
    clear = np.abs(distance - GOAL_RADIUS) > 1e-5
    np.testing.assert_array_equal(single.rewards[clear], (distance <= GOAL_RADIUS)[clear])
    assert 0 < single.rewards.mean() < 1


def test_the_noise_is_gaussian_of_the_stated_size():
    """Gains of 0 leave the noise alone."""
    maze = PointMaze("pointmaze-umaze", Settings(kp=0.0, kd=0.0, noise=0.2))
    actions = maze.collect(maze.parts(4000, 0)[0])["actions"]
    np.testing.assert_allclose(actions.std(axis=0), 0.2, rtol=0.05)
    np.testing.assert_allclose((np.abs(actions) < 0.2).mean(), 0.683, atol=0.03)


def test_actions_are_clipped(data):
    assert np.abs(data.actions).max() == 1


def test_same_seed_same_data():
    first, again, other = (make_dataset("pointmaze-medium", steps=700, seed=s) for s in (1, 1, 2))
    longer = make_dataset("pointmaze-medium", steps=900, seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    np.testing.assert_array_equal(first.actions, longer.actions[:700])


def test_attributes_tell_where_the_data_come_from(data):
    told = data.attributes
    assert told["name"] == "pointmaze-umaze" and told["environment"] == "PointMaze_UMaze-v3"
    assert (told["steps"], told["seed"], told["controller_noise"]) == (12_345, 4, 0.5)
    assert told["statement"] == "regenerated; not a D4RL data set"


def test_bad_requests_get_a_sentence():
    with pytest.raises(DataError, match=r"'pointmaze-huge' can be generated; did you mean pointmaze-.* or pointmaze-"):
        make_dataset("pointmaze-huge")
    with pytest.raises(ReverieError, match="steps must be at least 1, but is 0"):
        make_dataset("pointmaze-umaze", steps=0)


def test_the_table_counts_the_cells_it_claims():
    for name, maze in MULTI.items():
        assert f"{len(maze.free)} free cells" in DATASETS[name].description
