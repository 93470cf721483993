import numpy as np
import pytest

from reverie.environments import make
from reverie.environments.meeting import FARTHEST, LIMIT, SPREAD


@pytest.fixture
def env():
    made = make("meeting")
    made.reset(seed=0)
    return made


def play(env, *moves):
    """An episode of the same action: the rewards, and the last step's other results."""
    rewards = []
    for _ in range(LIMIT):
        _, reward, *told = env.step(np.array(moves, float)[:, None])
        rewards.append(reward)
    return rewards, *told


@pytest.mark.parametrize(("moves", "met"), [((1, 1), 1.0), ((-1, -1), 1.0), ((1, -1), 0.0), ((0.2, 0.1), 1.0)])
def test_the_reward_is_1_once_where_both_have_arrived_at_one_place(env, moves, met):
    rewards, terminal, timeout, info = play(env, *moves)
    assert (sum(rewards), terminal, timeout, info["success"]) == (met, False, True, bool(met))
    np.testing.assert_array_equal(info["places"], np.sign(moves))


def test_an_action_is_a_displacement_up_to_its_bound_until_one_has_arrived(env):
    env.positions = np.array([0.0, 0.85])
    np.testing.assert_allclose(env.step([[5.0], [0.1]])[0], [[FARTHEST], [0.95]], rtol=1e-6)
    np.testing.assert_allclose(env.step([[-0.1], [-0.1]])[0], [[FARTHEST - 0.1], [0.95]], rtol=1e-6)


def test_who_stays_has_not_arrived(env):
    rewards, _, timeout, info = play(env, 0, 1)
    assert not any(rewards) and timeout and env.steps == LIMIT == env.spec.max_episode_steps
    assert not info["success"] and info["places"].tolist() == [0, 1]


def test_a_seed_fixes_the_start_near_the_middle(env):
    starts = np.array([env.reset(seed=seed)[0] for seed in range(200)]).squeeze(-1)
    np.testing.assert_array_equal(env.reset(seed=7)[0][:, 0], starts[7])
    np.testing.assert_allclose(starts.std(0), SPREAD, rtol=4 / 400**0.5)
