"""A team of PettingZoo's as one environment: a stand-in with agents of different sizes, without the package."""

from typing import ClassVar

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from reverie.environments.parallel import Joint
from reverie.errors import ReverieError


class Stand:
    """Agents a and b of two and one numbers, and c; each is paid the sum of its action."""

    possible_agents = ("a", "b", "c")
    agents = possible_agents
    sizes: ClassVar = {"a": (2, 1), "b": (1, 3), "c": (2, 1)}

    def observation_space(self, agent):
        return Box(-1, 1, (self.sizes[agent][0],), np.float32)

    def action_space(self, agent):
        return Box(-2, 1, (self.sizes[agent][1],), np.float32)

    def reset(self, seed=None, options=None):
        self.seed, self.taken = seed, []
        return {name: np.full(size, 0.5, np.float32) for name, (size, _) in self.sizes.items()}, {}

    def step(self, actions):
        self.taken.append(actions)
        seen = {name: np.full(size, 1.0, np.float32) for name, (size, _) in self.sizes.items()}
        paid = {name: float(action.sum()) for name, action in actions.items()}
        ends = {name: name == "b" and len(self.taken) == 2 for name in self.sizes}
        return seen, paid, ends, dict.fromkeys(self.sizes, False), {}

    def close(self):
        self.closed = True


def joint(**options):
    return Joint(Stand(), "stand", 10, **{"team": ("a", "b"), "others": lambda env, name: np.array([9.0])} | options)


def test_agents_of_different_sizes_are_filled_and_their_actions_cut():
    env = joint()
    assert env.observation_sizes == [2, 1] and env.action_sizes == [1, 3]
    np.testing.assert_array_equal(env.own_actions, [[True, False, False], [True] * 3])
    assert env.action_space == Box(-2, 1, (2, 3), np.float32)
    seen, _ = env.reset(seed=3)
    np.testing.assert_array_equal(seen, [[0.5, 0.5], [0.5, 0.0]])
    assert env.observation_space.contains(seen) and env.env.seed == 3
    _, reward, terminal, _, info = env.step([[1, 7, 7], [0.5, 0.25, 0.0]])
    taken = env.env.taken[0]
    assert {name: action.tolist() for name, action in taken.items()} == {"a": [1], "b": [0.5, 0.25, 0.0], "c": [9]}
    assert (reward, terminal) == (1.75, False), "what the others are paid is not the team's"
    np.testing.assert_array_equal(info["rewards"], [1, 0.75])
    assert env.step(np.zeros((2, 3)))[2], "one of the team is at its end"
    env.close()
    assert env.env.closed


def test_all_agents_are_the_team_where_none_is_named():
    assert joint(team=(), others=None).team == ("a", "b", "c")


def test_what_does_not_fit_is_refused_in_a_sentence():
    with pytest.raises(ReverieError, match="stand has no agent 'd'; it has a, b, c"):
        joint(team=("a", "d"))
    with pytest.raises(ReverieError, match="Nobody acts for 'c' in stand; give `others` a script"):
        joint(others=None)

    class Discreet(Stand):
        def action_space(self, agent):
            return Discrete(5)

    with pytest.raises(ReverieError, match=r"'a' of stand has actions Discrete\(5\); only vectors"):
        Joint(Discreet(), "stand", 10)
