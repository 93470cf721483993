"""One flag `dones` as terminals and timeouts."""

import numpy as np
import pytest

from reverie.data.dones import ends, successes

LAST = np.array([0, 0, 1, 0, 1], bool)
"""Trajectories of three and two steps."""


def bools(values):
    return None if values is None else np.array(values, bool)


@pytest.mark.parametrize(
    "done, success, terminals, cuts",
    [
        ([0, 0, 1, 0, 1], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]),
        ([0, 0, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 1], [0, 0, 1, 0, 0]),
        ([0, 0, 1, 0, 1], None, [0, 0, 0, 0, 0], [0, 0, 1, 0, 1]),
        ([0, 0, 1, 0, 0], None, [0, 0, 1, 0, 0], [0, 0, 0, 0, 1]),
    ],
    ids=["success is known", "a success that is no done", "dones at all ends", "dones at some ends"],
)
def test_a_done_in_a_last_row_is_a_terminal_where_it_tells_of_success(done, success, terminals, cuts):
    found = ends(bools(done), LAST, bools(success))
    np.testing.assert_array_equal(found["terminals"], terminals)
    np.testing.assert_array_equal(found["timeouts"], cuts)
    assert not (found["terminals"] & found["timeouts"]).any()


def test_a_done_before_the_last_row_is_a_terminal_after_which_the_trajectory_goes_on():
    found = ends(bools([0, 1, 1, 0, 1]), LAST, bools([0, 1, 1, 0, 0]))
    assert found.keys() == {"terminals", "ends"}
    np.testing.assert_array_equal(found["terminals"], [0, 1, 1, 0, 0])
    np.testing.assert_array_equal(found["ends"], LAST)


def test_without_dones_no_terminals_are_known():
    assert ends(None, LAST, bools([0, 0, 1, 0, 1])).keys() == {"timeouts"}


def test_only_rewards_of_0_and_1_tell_of_success():
    np.testing.assert_array_equal(successes(np.array([0, 1.0, 0])), [False, True, False])
    assert successes(np.array([0, 0.5, 1])) is None
    assert successes(None) is None


def test_what_is_given_is_not_written_to():
    done = bools([0, 0, 1, 0, 1])
    ends(done, LAST, bools([0, 0, 0, 0, 0]))
    np.testing.assert_array_equal(done, LAST)
