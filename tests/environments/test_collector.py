"""Environments stepped together against one environment stepped by itself."""

import gymnasium
import numpy as np
import pytest

from reverie.environments.collector import Collector
from reverie.errors import ReverieError


class Counting(gymnasium.Env):
    """Observes how many steps it has made; every other episode ends by a terminal after 3, the rest are cut after 4."""

    observation_space = gymnasium.spaces.Box(-100, 100, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.episode = 0 if seed is not None else self.episode + 1
        self.steps = 0
        return np.zeros(1), {}

    def step(self, action):
        self.steps += 1
        even = self.episode % 2 == 0
        return np.full(1, float(self.steps)), float(action[0]), even and self.steps == 3, self.steps == 4, {}


def test_what_follows_an_episode_is_the_next_one_and_its_last_observation_is_kept():
    """Episodes of 3 (a terminal), 4 (a cut) and so on, in 2 environments of 2 seeds."""
    env = Collector(Counting, (0, 1), 2)
    made = env.steps(lambda seen: np.full((2, 2, 1), 5.0), 9)
    for s in range(2):
        for e in range(2):
            rows = {name: x[s, :, e] for name, x in made.items()}
            np.testing.assert_array_equal(rows["observations"][:, 0], [0, 1, 2, 0, 1, 2, 3, 0, 1])
            np.testing.assert_array_equal(rows["next_observations"][:, 0], [1, 2, 3, 1, 2, 3, 4, 1, 2])
            np.testing.assert_array_equal(rows["terminals"].nonzero()[0], [2])
            np.testing.assert_array_equal(rows["timeouts"].nonzero()[0], [6])
            np.testing.assert_array_equal(rows["rewards"], 1)
    assert env.ended == [[3.0, 3.0, 4.0, 4.0]] * 2


def test_a_seed_meets_the_same_starts_whichever_other_seeds_there_are():
    alone, second = Collector("Pendulum-v1", (3,), 2), Collector("Pendulum-v1", (2, 3), 2)
    np.testing.assert_array_equal(alone.observations[0], second.observations[1])
    assert not np.array_equal(second.observations[0], second.observations[1])
    later = Collector("Pendulum-v1", (3,), 2, entropy=1000)
    assert not np.array_equal(alone.observations, later.observations)


def test_actions_that_are_no_vectors_of_numbers_are_refused():
    with pytest.raises(ReverieError, match=r"CartPole-v1 has actions Discrete\(2\)"):
        Collector("CartPole-v1", (0,), 1)


def test_an_environment_that_is_refused_is_named_by_its_id_or_its_class():
    class Choosing(Counting):
        action_space = gymnasium.spaces.Discrete(2)

    with pytest.raises(ReverieError, match=r"^Choosing has actions Discrete\(2\)"):
        Collector(lambda: Choosing(), (0,), 1)
    with pytest.raises(ReverieError, match=r"^CartPole-v1 has actions Discrete\(2\)"):
        Collector(lambda: gymnasium.make("CartPole-v1"), (0,), 1)


class Costly(Counting):
    """Costs as many as its steps, and 100 to begin anew, which no step's is."""

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0], {"cost": 100.0}

    def step(self, action):
        return *super().step(action)[:4], {"cost": 1.0 * self.steps}


class Late(Counting):
    """Reports a cost in its second step, of which the last of an episode is another."""

    def step(self, action):
        return *super().step(action)[:4], {"cost": 1.0} if self.steps == 2 else {}


def test_costs_are_those_of_the_steps_the_last_of_an_episode_too():
    made = Collector(Costly, (0, 1), 2).steps(lambda seen: np.zeros((2, 2, 1)), 9)
    assert made["costs"].dtype == np.float32 and made["costs"].shape == (2, 9, 2)
    for s in range(2):
        for e in range(2):
            np.testing.assert_array_equal(made["costs"][s, :, e], [1, 2, 3, 1, 2, 3, 4, 1, 2])
    assert "costs" not in Collector(Counting, (0,), 1).step(np.zeros((1, 1, 1)))


def test_costs_that_come_later_are_refused():
    env = Collector(Late, (0,), 1)
    env.step(np.zeros((1, 1, 1)))
    with pytest.raises(ReverieError, match=r"Late reports info\['cost'\], but did not in its first step"):
        env.step(np.zeros((1, 1, 1)))
