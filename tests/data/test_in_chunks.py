"""Actions in chunks: which rows there are, what they are worth and what follows them."""

import numpy as np
import pytest

from reverie.data import Dataset
from reverie.data.in_chunks import in_chunks
from reverie.data.readers import read
from reverie.errors import DataError


def counted(last="timeout", n=7, first=0, **changed) -> Dataset:
    """One episode: observations and actions are the step's number, rewards its square."""
    step = first + np.arange(n, dtype=np.float32)
    ends = np.arange(n) == n - 1
    arrays = {
        "observations": step[:, None], "actions": step[:, None] / 100, "rewards": step**2, "costs": step,
        "terminals": ends & (last == "terminal"), "timeouts": ends & (last == "timeout"),
    }  # fmt: skip
    return Dataset.from_arrays(**arrays | changed)


def rows(data: Dataset) -> list[tuple]:
    numbers = np.round(100 * data.actions).astype(int).tolist()
    return list(zip(data.observations[:, 0].astype(int).tolist(), numbers, strict=True))


def test_an_episode_that_ends_the_task_has_a_chunk_from_every_step_and_repeats_the_last_action():
    data = in_chunks(counted("terminal"), 3)
    assert rows(data) == [
        (0, [0, 1, 2]), (3, [3, 4, 5]), (6, [6, 6, 6]),
        (1, [1, 2, 3]), (4, [4, 5, 6]),
        (2, [2, 3, 4]), (5, [5, 6, 6]),
    ]  # fmt: skip
    np.testing.assert_array_equal(data.rewards, [5, 50, 36, 14, 77, 29, 61])
    np.testing.assert_array_equal(data.costs, [3, 12, 6, 6, 15, 9, 11])
    assert data.episodes.tolist() == [[0, 3], [3, 5], [5, 7]]
    np.testing.assert_array_equal(data.terminals, [0, 0, 1, 0, 1, 0, 1])
    assert not data.timeouts.any()
    np.testing.assert_array_equal(data.next_observations[[0, 1, 3, 5], 0], [3, 6, 4, 5])
    assert data.attributes["chunk"] == 3


@pytest.mark.parametrize("successors", [False, True])
def test_what_would_reach_beyond_a_cut_is_left_out(successors):
    """Of what follows the last step something is known only where the data say it."""
    more = {"next_observations": np.arange(1, 8, dtype=np.float32)[:, None]} if successors else {}
    data = in_chunks(counted(**more), 3)
    complete = [(0, [0, 1, 2]), (3, [3, 4, 5]), (1, [1, 2, 3]), (4, [4, 5, 6]), (2, [2, 3, 4])]
    assert rows(data) == [row for row in complete if successors or row[0] != 4]
    assert data.next_observations[:, 0].tolist() == [first + 3 for first, _ in rows(data)]
    assert not data.terminals.any() and data.timeouts.sum() == 3


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_episode_goes_over_into_the_next(size):
    """Of three that are cut after five steps, whose last chunk ends where the next one begins."""
    cut = np.arange(15) % 5 == 4
    whole = counted(n=15, timeouts=cut, next_observations=np.arange(1, 16, dtype=np.float32)[:, None])
    data = in_chunks(whole, size)
    assert len(data.episodes) == 3 * size
    first, last = data.episodes[:, 0], data.episodes[:, 1] - 1
    assert (data.observations[first, 0] // 5 == data.observations[last, 0] // 5).all()
    np.testing.assert_array_equal(data.timeouts, np.isin(np.arange(len(data)), last))


def test_after_a_terminal_inside_nothing_counts():
    """Of trajectories that go on after the task was solved, as OGBench's: `ends` are where these end."""
    solved = np.arange(7) == 3
    data = in_chunks(counted(terminals=solved, timeouts=None, ends=np.arange(7) == 6), 3)
    value = dict(zip(data.observations[:, 0].astype(int).tolist(), data.rewards.tolist(), strict=True))
    assert value[1] == 1 + 4 + 9 and value[2] == 4 + 9 and value[3] == 9
    assert value[0] == 5
    ended = dict(zip(data.observations[:, 0].astype(int).tolist(), data.terminals.tolist(), strict=True))
    assert ended == {0: False, 3: True, 1: True, 2: True}
    assert data.episodes.tolist() == [[0, 2], [2, 3], [3, 4]]


def test_one_action_a_chunk_is_the_data_where_successors_are_known():
    data = in_chunks(counted("terminal"), 1)
    whole = counted("terminal").with_next_observations()
    for name, array in whole.arrays().items():
        np.testing.assert_array_equal(data.arrays()[name], array, err_msg=name)


def test_it_is_asked_for_in_the_source_and_what_cannot_be_had_is_refused():
    bounded = counted("terminal", action_low=[-1.0], action_high=[2.0])
    data = read("some@chunk=2@best=0.5", lambda name: bounded)
    assert data.action_dim == 2 and len(data.episodes) == 1
    np.testing.assert_array_equal(data.action_bounds, [[-1, -1], [2, 2]])
    for source, message in {
        "some@chunk=0": "chunk=0 must be a whole number of at least 1",
        "some@chunk=1.5": "chunk=1.5 must be a whole number",
    }.items():
        with pytest.raises(DataError, match=message):
            read(source, lambda name: bounded)
    with pytest.raises(DataError, match="chunk=9, but the longest episode has 7 steps"):
        in_chunks(counted(), 9)
    team = counted(actions=np.zeros((7, 2, 1)), observations=np.zeros((7, 2, 3)))
    with pytest.raises(DataError, match=r"chunk=2 is of one agent's actions, and these are \[2, 1\] a step"):
        in_chunks(team, 2)
