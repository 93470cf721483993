"""Scales of rewards, by hand."""

import numpy as np
import pytest

from reverie.data import Dataset
from reverie.errors import DataError, ReverieError
from reverie.rl import REWARDS, ActorCritic


def data(**changed) -> Dataset:
    """Two episodes, of 3 steps to a terminal and of 2 to a cut; returns 6 and 2."""
    arrays = {
        "observations": np.arange(10.0).reshape(5, 2),
        "actions": np.full((5, 2), 0.5),
        "rewards": np.array([1.0, 2, 3, 0, 2]),
        "terminals": [0, 0, 1, 0, 0],
    }
    return Dataset.from_arrays(**arrays | changed)


@pytest.mark.parametrize(
    "scale, expected",
    [
        ("raw", [1, 2, 3, 0, 2]),
        ("standard", (np.array([1, 2, 3, 0, 2]) - 1.6) / np.std([1, 2, 3, 0, 2])),
        ("returns", np.array([1, 2, 3, 0, 2]) * 1000 / 4),
        ("minus-one", [0, 1, 2, -1, 1]),
        ("antmaze", [2, 6, 10, -2, 6]),
    ],
)
def test_scales_of_rewards(scale, expected):
    view, _ = ActorCritic(rewards=scale).prepare(data(next_observations=np.zeros((5, 2))))
    np.testing.assert_allclose(view.rows["rewards"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", REWARDS)
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.7])
def test_constant_rewards_have_no_scale_to_divide_by(scale, constant):
    """0.1 is none in binary, so that its standard deviation is not 0 but rounding; two equal episodes, one return."""
    rewards = np.full(6, constant, np.float32)
    same = data(
        observations=np.zeros((6, 2)), actions=np.full((6, 2), 0.5), rewards=rewards, terminals=[0, 0, 1, 0, 0, 1]
    )
    mean, std = REWARDS[scale](same)
    expected = {"standard": 0, "minus-one": constant - 1, "antmaze": 4 * constant - 2}.get(scale, constant)
    np.testing.assert_allclose((rewards - mean) / std, expected, atol=1e-5)


def test_single_steps_cut_from_episodes_have_no_returns_to_scale_by():
    with pytest.raises(DataError, match=r"rewards 'returns' divides.* 'this data set' is a single step.*'standard'"):
        ActorCritic(rewards="returns").prepare(data(timeouts=np.ones(5), next_observations=np.zeros((5, 2))))


def test_a_scale_that_is_none_is_refused():
    with pytest.raises(ReverieError, match="rewards 'huge' is unknown; choose one of raw, standard, returns"):
        ActorCritic(rewards="huge")
