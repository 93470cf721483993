"""Chunks as transitions: rewards, successors, terminals and validity by hand."""

import numpy as np
import pytest

from reverie.data import Dataset, Spec, chunk_transitions, transitions
from reverie.errors import DataError

DISCOUNT = 0.5


def data(**changed) -> Dataset:
    """Episodes of rows 0 to 4, which ends with the task, and 5 to 9, which is cut."""
    row = np.arange(10)
    arrays = {
        "observations": row[:, None] * 1.0, "actions": row[:, None] / 10, "rewards": 2.0**row, "terminals": row == 4,
        "timeouts": row == 9, "action_low": -1.0, "action_high": 1.0,
    }  # fmt: skip
    return Dataset.from_arrays(**arrays | changed)


def batch(length, **changed):
    known = data(**changed)
    view = chunk_transitions(known, Spec.fit(known), length, DISCOUNT)
    return {name: np.asarray(x) for name, x in view.take(np.arange(10)).items()}


def test_rewards_successors_and_terminals_by_hand():
    rows = batch(3)
    np.testing.assert_array_equal(rows["valid"], [1, 1, 1, 0, 0, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(rows["rewards"][:5], [3, 6, 12, 8 + 8, 16])  # 2^t (1 + 1 + 1)
    np.testing.assert_array_equal(rows["terminals"][:5], [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(rows["terminals"][5:], 0)
    np.testing.assert_array_equal(rows["next_observations"][[0, 1, 5, 6], 0], [3, 4, 8, 9])
    np.testing.assert_allclose(rows["actions"][2], [0.2, 0.3, 0.4])
    np.testing.assert_allclose(rows["actions"][3], [0.3, 0.4, 0.4])
    np.testing.assert_array_equal(rows["inside"][3], [1, 1, 0])
    np.testing.assert_array_equal(rows["observations"][:, 0], np.arange(10))


def test_an_end_by_a_timeout_is_valid_where_the_observation_after_it_is_known():
    after = (np.arange(10) + 1.0)[:, None]
    rows = batch(3, next_observations=after)
    np.testing.assert_array_equal(rows["valid"], [1, 1, 1, 0, 0, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(rows["next_observations"][[2, 7], 0], [5, 10])


def test_where_an_episode_goes_on_after_a_terminal_nothing_counts_beyond_it():
    """As in OGBench's single tasks: the chunk is valid, and its value ends with the task."""
    rows = batch(3, terminals=np.arange(10) == 2, timeouts=np.zeros(10, bool), ends=np.arange(10) % 5 == 4)
    np.testing.assert_array_equal(rows["valid"], [1, 1, 1, 0, 0, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(rows["terminals"], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(rows["rewards"][:3], [3, 4, 4])


def test_chunks_of_one_are_transitions():
    rows, known = batch(1), data()
    plain = transitions(known, Spec.fit(known))
    chosen = np.flatnonzero(rows["valid"])
    single = plain.take(np.arange(len(plain)))
    assert len(chosen) == len(plain)
    for name in ("observations", "actions", "rewards", "terminals"):
        np.testing.assert_allclose(rows[name][chosen], single[name])
    going_on = np.asarray(single["terminals"]) == 0
    np.testing.assert_allclose(
        rows["next_observations"][chosen][going_on], np.asarray(single["next_observations"])[going_on]
    )


def test_chunks_that_no_episode_holds_are_refused():
    known = data()
    with pytest.raises(DataError, match="No chunk of 6 actions fits an episode: the longest has 5 steps; shorten"):
        chunk_transitions(known, Spec.fit(known), 6, DISCOUNT)
