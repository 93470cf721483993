import numpy as np
import pytest

from reverie.environments import make
from reverie.environments.fork import FARTHEST, GOAL, LIMIT, SPREAD, nearest


@pytest.fixture
def env():
    made = make("fork")
    made.reset(seed=0)
    return made


def _from(env, position):
    env.reset(seed=0)
    env.position = np.array(position)
    return env


def test_an_action_is_the_displacement_up_to_its_bound(env):
    _from(env, (0.5, -1.0))
    np.testing.assert_allclose(env.step((0.03, -0.05))[0], [0.53, -1.05], rtol=1e-6)
    np.testing.assert_allclose(env.step((-5.0, 0.04))[0], [0.53 - FARTHEST, -1.01], rtol=1e-6)
    np.testing.assert_allclose(_from(env, (1.45, 0.0)).step((0.1, 0.0))[0], [1.5, 0.0])


@pytest.mark.parametrize(("x", "fails"), [(-0.301, False), (-0.299, True), (0.0, True), (0.299, True), (0.301, False)])
def test_touching_the_obstacle_is_the_end_without_success(env, x, fails):
    _from(env, (x, -0.05))
    _, reward, terminal, _, info = env.step((0.0, 0.1))
    assert (terminal, reward, info["success"]) == (fails, 0.0, False)


def test_no_step_jumps_across_the_obstacles_edge(env):
    """From outside to outside, through 0.29 from the centre."""
    _from(env, (0.05, -0.31))
    assert env.step((-0.1, 0.0))[2] is False
    _from(env, (0.05, -0.299))
    assert env.step((-0.1, 0.0))[2] is True
    assert nearest(np.array([1.0, -1.0]), np.array([1.0, 1.0]), (0, 0)) == 1
    assert nearest(np.array([2.0, 0.0]), np.array([1.0, 0.0]), (0, 0)) == 1
    assert nearest(np.array([0.0, 2.0]), np.array([0.0, 2.0]), (0, 0)) == 2


def test_the_goal_is_the_end_with_success(env):
    _from(env, (GOAL[0], GOAL[1] - 0.24))
    _, reward, terminal, _, info = env.step((0.0, 0.08))
    assert (terminal, reward, info["success"]) == (False, 0.0, False)
    _, reward, terminal, _, info = env.step((0.0, 0.02))
    assert (terminal, reward, info["success"]) == (True, 1.0, True)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_info_says_on_which_side_the_obstacle_was_passed(env, side):
    _from(env, (side * 0.5, -0.15))
    sides = [env.step((0.0, 0.1))[4]["side"] for _ in range(2)]
    assert sides == [0, side]
    for _ in range(12):  # across to the other side above it
        env.step((-side * 0.1, 0.05))
    assert env.step((0.0, 0.0))[4]["side"] == side


def test_straight_ahead_fails(env):
    """What the mean of the two ways does."""
    for seed in range(10):
        env.reset(seed=seed)
        ended = False
        while not ended:
            _, reward, ended, _, _ = env.step((0.0, 0.08))
        assert reward == 0


def test_a_seed_fixes_the_start_near_its_place(env):
    starts = np.array([env.reset(seed=seed)[0] for seed in range(200)])
    np.testing.assert_array_equal(env.reset(seed=7)[0], starts[7])
    np.testing.assert_allclose(starts.mean(axis=0), [0, -1], atol=4 * SPREAD / 200**0.5)
    np.testing.assert_allclose(starts.std(axis=0), SPREAD, rtol=4 / 400**0.5)


def test_an_episode_has_its_limit(env):
    ends = [env.step((0.0, 0.0))[2:4] for _ in range(LIMIT)]
    assert ends == [(False, False)] * (LIMIT - 1) + [(False, True)] and env.spec.max_episode_steps == LIMIT


def test_a_reset_may_say_where_the_point_starts():
    env = make("fork")
    usual, moved = (env.reset(seed=3, options=options)[0] for options in (None, {"position": (1.0, 0.5)}))
    np.testing.assert_allclose(moved - usual, [1.0, 1.5], atol=1e-6)
