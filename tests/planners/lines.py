"""Data for planners to goals: short walks on a line, none of which reaches far."""

import numpy as np

from reverie.data import Dataset

FASTEST = 0.13
"""The largest step."""


def walks(episodes=300, length=14, seed=0) -> Dataset:
    """On [-2, 2], to the left or to the right, at a pace of its own of 0.05 to 0.12 a step, which varies by a tenth of
    that; the action is the step."""
    rng = np.random.default_rng(seed)
    pace = rng.choice([-1.0, 1.0], (episodes, 1)) * rng.uniform(0.05, FASTEST / 1.1, (episodes, 1))
    actions = pace * rng.uniform(0.9, 1.1, (episodes, length))
    side = np.sign(pace)
    way = np.cumsum(actions, 1) - actions
    reach = np.abs(way[:, -1:])
    start = rng.uniform(-2 + reach * (side < 0), 2 - reach * (side > 0))
    timeouts = np.zeros((episodes, length), bool)
    timeouts[:, -1] = True
    return Dataset.from_arrays(
        (start + way).reshape(-1, 1),
        actions.reshape(-1, 1),
        timeouts=timeouts.reshape(-1),
        action_low=-1,
        action_high=1,
    )


def from_to(start, goal, n):
    return {"observation": np.full((n, 1), start, np.float32), "desired_goal": np.full((n, 1), goal, np.float32)}
