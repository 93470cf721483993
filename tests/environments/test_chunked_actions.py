"""Environments whose actions are several in a row: the same as these one after another."""

import gymnasium
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.data.in_chunks import in_chunks
from reverie.environments import make
from reverie.environments.chunked import Chunked
from reverie.environments.policies import RandomPolicy
from reverie.errors import ReverieError


def lived(env, actions, seed=0):
    """What is seen from the reset on, and rewards and ends of each step."""
    seen, told = [env.reset(seed=seed)[0]], []
    for action in actions:
        observation, *rest, _ = env.step(action)
        seen.append(observation)
        told.append(rest)
        if rest[1] or rest[2]:
            break
    return np.asarray(seen), np.asarray(told, float)


def test_a_chunk_s_step_is_its_actions_one_after_another_and_the_data_s_row():
    """In the pendulum, whose episodes are cut after 200 steps, and by the data of such an episode: to rounding."""
    actions = np.random.default_rng(0).uniform(-2, 2, (200, 1)).astype(np.float32)
    one, four = make("Pendulum-v1"), make("Pendulum-v1@chunk=4")
    seen, told = lived(one, actions)
    in_fours, sums = lived(four, actions.reshape(50, 4))
    np.testing.assert_allclose(in_fours, seen[::4], atol=1e-6)
    np.testing.assert_allclose(sums[:, 0], told[:, 0].reshape(50, 4).sum(1), rtol=1e-6)
    np.testing.assert_array_equal(sums[:, 1:], told[3::4, 1:])
    data = Dataset.from_arrays(*(seen[:-1], actions, told[:, 0], told[:, 1], told[:, 2]), next_observations=seen[1:])
    rows = in_chunks(data, 4)
    first = slice(*rows.episodes[0])
    np.testing.assert_allclose(rows.observations[first], in_fours[:-1], atol=1e-6)
    np.testing.assert_allclose(rows.next_observations[first], in_fours[1:], atol=1e-6)
    np.testing.assert_allclose(rows.rewards[first], sums[:, 0], rtol=1e-5)


class Falls(gymnasium.Env):
    """Ends the task in the sixth step; costs 1 a step and succeeds in the second alone."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(np.float32([-1]), np.float32([2]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.made = []
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.made.append(float(action[0]))
        n = len(self.made)
        return np.float32([n]), 1.0, n == 6, False, {"cost": 1.0, "success": n == 2, "number": n}


def test_the_rest_of_a_chunk_is_not_executed_after_an_end_and_costs_and_success_are_of_all():
    env = Chunked(Falls(), 4, "Falls")
    np.testing.assert_array_equal([env.action_space.low, env.action_space.high], [[-1] * 4, [2] * 4])
    env.reset()
    _, reward, terminated, _, info = env.step(np.zeros(4))
    assert (reward, terminated, info) == (4.0, False, {"cost": 4.0, "success": True, "number": 4})
    _, reward, terminated, _, info = env.step(np.float32([1, 0.5, 0.25, 0.125]))
    assert (reward, terminated, info) == (2.0, True, {"cost": 2.0, "success": False, "number": 6})
    assert env.made == [0, 0, 0, 0, 1, 0.5]


def test_policies_are_scored_in_it_by_the_same_reference():
    env = make("Pendulum-v1@chunk=5")
    scores = reverie.evaluate(RandomPolicy(env.action_space, 0), env="Pendulum-v1@chunk=5", episodes=2)
    assert scores.lengths.tolist() == [[40, 40]]
    from reverie.evaluation.rollout import reference_of

    assert reference_of("Hopper-v5@chunk=4", [], [], None, 0) == reverie.evaluation.REFERENCES["Hopper-v5"]


@pytest.mark.parametrize("name, message", [
    ("Pendulum-v1@chunk=0", "Pendulum-v1@chunk=0 has no action; give it 1 or more"),
    ("CartPole-v1@chunk=2", "CartPole-v1 is no task of one agent"),
    ("compass@chunk=2", "compass is no task of one agent"),
    ("meeting@chunk=2", "meeting is no task of one agent"),
])  # fmt: skip
def test_what_has_no_chunks_is_refused(name, message):
    with pytest.raises(ReverieError, match=message):
        make(name)
