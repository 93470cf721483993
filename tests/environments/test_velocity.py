"""Velocity tasks: their costs, of the simulator's own speeds."""

import numpy as np
import pytest

from reverie.environments import make
from reverie.environments.velocity import VELOCITY, Limited, speed, with_cost


@pytest.mark.parametrize("name", ["hopper-velocity", "ant-velocity"])
def test_the_task_is_gymnasium_s_and_a_step_above_the_threshold_costs_1(name):
    """A threshold that half of the steps exceed: the median of an episode's speeds."""
    known = VELOCITY[name]
    plain, rng = make(known.environment), np.random.default_rng(0)
    plain.reset(seed=0)
    actions = [rng.uniform(plain.action_space.low, plain.action_space.high) for _ in range(9)]
    steps = [plain.step(action) for action in actions]
    speeds = [speed(step[4], known.planar) for step in steps]
    env = with_cost(make(known.environment), known._replace(threshold=float(np.median(speeds))))
    env.reset(seed=0)
    for action, before, v in zip(actions, steps, speeds, strict=True):
        seen, reward, *_, info = env.step(action)
        np.testing.assert_array_equal(seen, before[0])
        assert reward == before[1] and info["cost"] == float(v > np.median(speeds))
    assert make(name).step.__self__.spec.max_episode_steps == 1000


def test_speed_is_along_x_or_in_the_plane():
    info = {"x_velocity": -3.0, "y_velocity": 4.0}
    assert speed(info, planar=False) == -3
    assert speed(info, planar=True) == 5


def test_every_task_has_the_published_threshold():
    assert VELOCITY["hopper-velocity"] == Limited("Hopper-v5", 0.7402)
    assert {name for name, each in VELOCITY.items() if each.planar} == {"ant-velocity", "humanoid-velocity"}
