"""Segments of several steps: what they bring, and what the state after them counts for, summed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Gaussian, Spec
from reverie.errors import DataError
from reverie.planning.segments import Segments, segment_returns


def episodes(**changed) -> Dataset:
    """Six steps to the end of the task, and four that are cut. Rewards are 1, 2, 4, ..., 512."""
    arrays = {
        "observations": np.arange(10.0)[:, None],
        "actions": np.zeros((10, 1)),
        "rewards": 2.0 ** np.arange(10),
        "terminals": np.arange(10) == 5,
        "timeouts": np.arange(10) == 9,
    }
    return Dataset.from_arrays(**arrays | changed)


def segments(data, horizon=3):
    return Segments.of(data, Spec.fit(data, observations=Gaussian), horizon)


def test_rewards_are_summed_to_the_last_state_that_is_known():
    """With a discount of 1/2 the rewards from row r on are 2^r for every step."""
    batch = segments(episodes()).take(jnp.arange(10))
    rewards, discount, steps = segment_returns(batch["rewards"], batch["terminals"], batch["mask"], 0.5)
    np.testing.assert_allclose(steps, [3, 3, 3, 3, 2, 1, 3, 2, 1, 0])
    np.testing.assert_allclose(rewards, 2.0 ** np.arange(10) * np.asarray(steps))
    np.testing.assert_allclose(discount, [1 / 8, 1 / 8, 1 / 8, 0, 0, 0, 1 / 8, 1 / 4, 1 / 2, 1])


def test_the_last_state_is_where_the_segment_leads():
    data = episodes()
    view = segments(data)
    last = np.array([3, 4, 5, 5, 5, 5, 9, 9, 9, 9], np.float32)[:, None]
    np.testing.assert_allclose(view.last_observations, (last - 4.5) / data.observations.std(), atol=1e-5)
    np.testing.assert_allclose(view.last_observations, view.take(jnp.arange(10))["observations"][:, -1])


def test_derived_columns_have_a_row_a_window():
    view = segments(episodes()).joined({"support": jnp.arange(20.0).reshape(10, 2, 1)})
    batch = view.draw(jax.random.key(0), 5)
    np.testing.assert_array_equal(batch["support"][:, 0, 0], 2 * batch["index"])
    assert batch["observations"].shape == (5, 4, 1)


@pytest.mark.parametrize("need", ["rewards", "terminals"])
def test_data_without_rewards_or_terminals_are_refused(need):
    with pytest.raises(DataError, match=f"no {need}"):
        segments(episodes(**{need: None}))
