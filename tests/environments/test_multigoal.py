import numpy as np
import pytest

from reverie.environments import make
from reverie.environments.multigoal import FARTHEST, GOALS, LIMIT, SIZE


@pytest.mark.parametrize("goal", range(4))
def test_any_goal_ends_the_episode_and_every_step_costs_the_distance_from_the_nearest(goal):
    env = make("multigoal")
    seen, info = env.reset(seed=0)
    np.testing.assert_array_equal(seen, [0, 0])
    assert info == {"success": False, "goal": 0}
    paid, terminal = [], False
    for _ in range(4):
        assert not terminal
        _, reward, terminal, timeout, info = env.step(0.2 * GOALS[goal])
        paid.append(reward)
    np.testing.assert_allclose(paid, [-0.8, -0.6, -0.4, -0.2], atol=1e-6)
    assert not terminal and not info["success"]
    _, _, terminal, timeout, info = env.step(0.2 * GOALS[goal])
    assert terminal and not timeout and info == {"success": True, "goal": goal + 1}


def test_actions_are_clipped_and_an_episode_without_a_goal_is_cut():
    env = make("multigoal")
    env.reset(seed=0)
    seen, *_ = env.step([9.0, 9.0])
    np.testing.assert_allclose(seen, [FARTHEST, FARTHEST], atol=1e-6)
    for _ in range(LIMIT - 1):
        seen, _, terminal, timeout, _ = env.step([1.0, 1.0])
    np.testing.assert_allclose(seen, [SIZE, SIZE])
    assert timeout and not terminal
