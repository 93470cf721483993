"""A bandit that is played online: two ways to act, of which the rarer one pays. What every method that tunes a policy
must tell apart."""

import gymnasium
import jax
import numpy as np

from bandit import act
from reverie.data import Dataset
from reverie.training.beginning import states

LOW, HIGH = 1.0, 5.0
"""Of the actions: what networks see as -1 and 1."""
SHORT = {"warmup": 256, "update_interval": 256, "log_every": 256, "envs": 64, "progress": False}


class Arm(gymnasium.Env):
    """One step: the action pays 1 near 4.2, and nothing elsewhere."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(LOW, HIGH, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(abs(action[0] - 4.2) < 0.5), True, False, {}


def two_ways(n: int = 2000) -> Dataset:
    """Actions near 1.8 and near 4.2, which are -0.6 and 0.6 in the networks' units, three times as often the former."""
    rng = np.random.default_rng(0)
    side = np.where(np.arange(n) % 4 == 3, 1, -1)
    actions = 3 + 2 * (0.6 * side + 0.05 * rng.normal(size=n))
    bounds = {"action_low": np.float32([LOW]), "action_high": np.float32([HIGH])}
    return Dataset.from_arrays(np.zeros((n, 1)), actions[:, None], np.zeros(n), np.ones(n), **bounds)


def acted(run, algorithm, state, n: int = 2000) -> np.ndarray:
    """n actions in the networks' units."""
    return (act(algorithm, state, run.spec, n)[:, 0] - 3) / 2


def begun(run, algorithm):
    """The state with which training begins from the run."""
    return jax.tree.map(lambda leaf: leaf[0], states(algorithm, run.spec, (0,), run))


def near_a_mode(actions) -> float:
    """The part of the actions."""
    return (np.abs(np.abs(actions) - 0.6) < 0.2).mean()


def moves(paid, steps: int) -> None:
    """Rows of so many steps each: what is paid never falls by more than four of its largest standard errors."""
    assert (np.diff(paid) > -4 * 0.5 / np.sqrt(steps)).all()
