import numpy as np
import pytest

from reverie.environments import make
from reverie.environments.speed import GAIN, LIMIT, START


@pytest.fixture
def env():
    made = make("speed")
    made.reset(seed=0)
    return made


def test_an_action_changes_the_speed_which_is_paid_and_charged(env):
    env.speed = 0.3
    seen, reward, terminal, timeout, info = env.step([0.4])
    assert seen == pytest.approx([0.4, 1 - 1 / LIMIT])
    assert reward == info["cost"] == pytest.approx(0.3 + 0.4 * GAIN)
    assert not terminal and not timeout


def test_the_speed_stays_within_0_and_1_and_actions_within_theirs(env):
    assert [env.step([9.0])[1] for _ in range(5)][-1] == 1
    assert env.step([-9.0])[1] == pytest.approx(1 - GAIN)
    assert [env.step([-1.0])[1] for _ in range(5)][-1] == 0


def test_an_episode_has_its_limit_and_says_what_is_left(env):
    steps = [env.step([0.0]) for _ in range(LIMIT)]
    assert [step[3] for step in steps] == [False] * (LIMIT - 1) + [True]
    np.testing.assert_allclose([step[0][1] for step in steps], 1 - np.arange(1, LIMIT + 1) / LIMIT, atol=1e-6)
    assert env.spec.max_episode_steps == LIMIT


def test_a_seed_fixes_a_slow_start(env):
    starts = np.array([env.reset(seed=seed)[0] for seed in range(100)])
    np.testing.assert_array_equal(env.reset(seed=7)[0], starts[7])
    assert (starts[:, 1] == 1).all()
    assert starts[:, 0].min() < 0.1 * START and 0.9 * START < starts[:, 0].max() <= START
