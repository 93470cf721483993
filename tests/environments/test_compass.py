import numpy as np
import pytest

from reverie.environments import make
from reverie.environments.compass import FARTHEST, GOALS, LIMIT, SIZE, TASKS
from reverie.environments.turns import turn_of


def test_tasks_come_in_turn_by_the_episode_the_seed_or_one_after_another():
    env = make("compass")
    env.episode = 11
    assert env.reset(seed=5)[1] == {"success": False, "task": 4}
    env.episode = None
    assert [env.reset(seed=seed)[1]["task"] for seed in (5, None, None, None)] == [6, 7, 8, 1]
    assert (env.tasks, env.task_names) == (8, TASKS)
    assert turn_of(0, 3, 7) == 0 and turn_of(None, 0, 7) == 0 and turn_of(None, None, 7) == 8


def test_what_is_observed_does_not_tell_the_task():
    env, seen = make("compass"), []
    for env.episode in range(8):
        seen.append(env.reset(seed=3)[0])
    np.testing.assert_array_equal(seen, [seen[0]] * 8)


@pytest.mark.parametrize("task", range(8))
def test_every_step_at_its_own_goal_is_paid_and_none_at_another_s(task):
    env = make("compass")
    env.episode = task
    env.reset(seed=0)
    env.position = np.zeros(2)
    paid = []
    for _ in range(LIMIT):
        _, reward, terminal, timeout, info = env.step(GOALS[task] / 20)
        paid.append(reward)
        assert not terminal and info["success"] == bool(reward)
    # From 0.85 to 1.15 of the way, in steps of 0.05; the place where both are alike may be rounded either way.
    assert sum(paid) in (5, 6, 7) and paid[15] == 0 and paid[19] == 1 and timeout
    env.position = GOALS[(task + 1) % 8].copy()
    assert env.step([0, 0])[1] == 0


def test_an_action_is_a_displacement_within_its_bounds_and_the_point_stays_in_the_square():
    env = make("compass")
    env.reset(seed=0)
    env.position = np.array([SIZE - 0.05, 0.0])
    np.testing.assert_allclose(env.step([9.0, -9.0])[0], [SIZE, -FARTHEST], rtol=1e-6)
