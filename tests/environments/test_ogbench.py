"""OGBench's environments by name: the same seed is the same episode, and numpy's global generator is the caller's."""

import sys

import numpy as np
import pytest

pytest.importorskip("ogbench")

from reverie.collection.ogbench.course import Course
from reverie.data.schemes import is_goal_environment
from reverie.environments import make
from reverie.environments.ogbench import numpy_state
from reverie.errors import ReverieError
from reverie.evaluation.rollout import evaluate


def flat(seen):
    return np.concatenate([seen[key] for key in sorted(seen)]) if isinstance(seen, dict) else seen


def episode(env, seed, steps=10):
    """Observations and rewards, the goal's first."""
    seen, info = env.reset(seed=seed)
    rows, rng = [flat(seen), flat(info["goal"])], np.random.default_rng(0)
    for _ in range(steps):
        seen, reward, _, _, _ = env.step(rng.uniform(-1, 1, env.action_space.shape).astype(np.float32))
        rows += [flat(seen), np.array([reward])]
    return np.concatenate(rows)


@pytest.mark.parametrize(
    "name",
    [
        "pointmaze-medium-v0",
        "pointmaze-teleport-singletask-task2-v0",
        "antmaze-medium-goals-v0",
        pytest.param("cube-single-v0", marks=pytest.mark.slow),
        pytest.param("puzzle-3x3-singletask-v0", marks=pytest.mark.slow),
    ],
)
def test_a_seed_is_an_episode_and_the_callers_generator_is_left_alone(name):
    np.random.seed(3)
    outside = np.random.get_state()[1].copy()
    env = make(name)
    first = episode(env, 1)
    other = episode(env, 2)
    np.testing.assert_array_equal(np.random.get_state()[1], outside)
    np.random.seed(4)
    np.testing.assert_array_equal(episode(env, 1), first)
    if not name.startswith("puzzle"):  # a second one of these takes long
        np.testing.assert_array_equal(episode(make(name), 1), first)
    assert other.shape != first.shape or not np.array_equal(other, first)


def test_the_state_inside_goes_on_from_step_to_step_and_resets_without_a_seed_differ():
    env = make("pointmaze-medium-v0")
    seen = [tuple(env.reset(seed=0)[0])] + [tuple(env.reset()[0]) for _ in range(5)]
    assert len(set(seen)) == 6
    with numpy_state(np.random.RandomState(0).get_state()):
        drawn = np.random.rand()
    assert drawn == np.random.RandomState(0).rand()


def test_a_single_task_has_its_rewards_where_it_is_solved():
    env = make("pointmaze-medium-singletask-task3-v0")
    env.reset(seed=0)
    inner = env.unwrapped
    assert inner.cur_task_info["goal_ij"] == (4, 2)
    _, reward, terminated, _, info = env.step(np.zeros(2))
    assert (reward, terminated, info["success"]) == (-1.0, False, 0.0)
    inner.set_xy(np.array(inner.cur_goal_xy))
    # Success is of the state that the action is chosen in.
    _, reward, terminated, _, info = env.step(np.ones(2))
    assert (reward, terminated, info["success"]) == (0.0, True, 1.0)


def test_the_goals_come_in_turn():
    env = make("pointmaze-large-goals-v0")
    assert is_goal_environment(env.observation_space.spaces)
    tasks = env.unwrapped.task_infos
    for episode_number, seed, task in ((0, 7, 1), (3, 7, 4), (5, 9, 1), (None, 7, 3), (None, None, 4), (None, None, 5)):
        env.episode = episode_number
        seen, info = env.reset(seed=seed)
        assert info["task"] == task
        # In its cell, 1 m from the centre at most.
        assert np.abs(seen["desired_goal"] - tasks[task - 1]["goal_xy"]).max() <= 1
        assert np.abs(seen["observation"] - tasks[task - 1]["init_xy"]).max() <= 1
        after, _, _, _, info = env.step(np.zeros(2))
        np.testing.assert_array_equal(after["desired_goal"], seen["desired_goal"])
        assert info["task"] == task and info["success"] == 0


class Shortest:
    """Goes the shortest way in every second episode, and stays where it is in the others."""

    name = "shortest ways"

    def __init__(self):
        self.course = Course.of(make("pointmaze-medium-v0"))

    def reset(self, n):
        self.still, self.rng = np.arange(n) % 2 == 1, np.random.default_rng(0)

    def act(self, seen, feedback=None):
        pairs = zip(seen["observation"].tolist(), seen["desired_goal"].tolist(), strict=True)
        aims = np.array([self.course.direction(x, y, goal) for (x, y), goal in pairs], np.float32)
        aims += self.rng.normal(0, 0.3, aims.shape)  # without noise a corner may hold it
        return np.where(self.still[:, None], 0, aims)


def test_success_is_told_of_each_task():
    scores = evaluate(Shortest(), "pointmaze-medium-goals-v0", episodes=10, max_steps=600, progress=False)
    assert scores.tasks == 5 and scores.reference is None
    found = {name: estimate.mean for name, estimate in scores.estimates.items() if name.startswith("success, task")}
    # Of episodes 0 and 5 the first is driven and the other is not: tasks have half each.
    assert found == {f"success, task {k}": 50.0 for k in range(1, 6)}
    assert scores.estimates["success"].mean == 50.0
    assert set(np.unique(scores.returns)) == {0.0, 1.0} and "success, task 5" in scores.to_dict()["estimates"]


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogbench", None)
    with pytest.raises(ReverieError, match=r"'cube-single-v0' needs ogbench, .*pip install 'reverie\[ogbench\]'"):
        make("cube-single-v0")


def test_an_unknown_task_gets_the_nearest():
    with pytest.raises(ReverieError, match="There is no environment 'cube-singel-v0': did you mean 'cube-single-v0'"):
        make("cube-singel-v0")
    with pytest.raises(ReverieError, match="use 'AntMaze_Medium-v5'"):
        make("antmaze-medium-play-v0")
