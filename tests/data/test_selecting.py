"""A part of a data set, asked for in its source."""

import numpy as np
import pytest

from reverie.data import Dataset
from reverie.data.readers import read
from reverie.errors import DataError

RETURNS = np.array([3.0, 9, 1, 9, 5, 0, 2, 7, 4, 6] * 3)


def collected(name):
    """30 episodes of two steps; each shows its number, and gains its return in the second."""
    number = np.repeat(np.arange(30.0), 2)
    rewards = np.where(np.arange(60) % 2, np.repeat(RETURNS, 2), 0)
    ends = np.arange(60) % 2 == 1
    arrays = (number[:, None], np.zeros((60, 1)), rewards, np.zeros(60), ends)
    return Dataset.from_arrays(*arrays, costs=number / 2, attributes={"name": name, "source": name})


def kept(source):
    return np.unique(read(source, collected).observations).tolist()


@pytest.mark.parametrize(
    "selection, episodes",
    [
        ("@best=0.1", [1, 3, 11]),
        ("@best=0.2", [1, 3, 11, 13, 21, 23]),
        ("@best=0.01", [1]),
        ("@best=1", list(range(30))),
        ("@every=10", [0, 10, 20]),
        ("@every=31", [0]),
        ("@every=10@best=0.5", [0, 10]),
        ("@best=0.2@every=5", [1, 23]),
        ("@max_cost=3.9", [0, 1, 2, 3]),
        ("@max_cost=0", [0]),
        ("@max_cost=11.5@best=0.2", [1, 3, 11]),
    ],
)
def test_the_selected_episodes_are_kept_complete_and_in_order(selection, episodes):
    assert kept(f"some{selection}") == episodes
    data = read(f"some{selection}", collected)
    assert len(data) == 2 * len(episodes)
    np.testing.assert_array_equal(data.returns, RETURNS[episodes])
    assert data.attributes["source"] == f"some{selection}"


@pytest.mark.parametrize(
    "selection, episodes",
    [("@times=3", [*range(30)] * 3), ("@every=10@times=2", [0, 10, 20] * 2), ("@times=1", [*range(30)])],
)
def test_a_set_may_be_repeated_for_its_share_among_several(selection, episodes):
    data = read(f"some{selection}", collected)
    np.testing.assert_array_equal(data.observations[::2, 0], episodes)
    np.testing.assert_array_equal(data.returns, RETURNS[episodes])
    assert len(data.episodes) == len(episodes) and data.attributes["source"] == f"some{selection}"
    assert len(read(f"some{selection}+some", collected)) == 2 * (len(episodes) + 30)


def test_a_selection_is_of_the_source_before_it_also_among_several(tmp_path):
    collected("a").save(f"d4rl:{tmp_path}/a@b.hdf5")
    several = read(f"some@every=10+d4rl:{tmp_path}/a@b.hdf5@best=0.1+some", collected)
    assert len(several) == 2 * (3 + 3 + 30)


@pytest.mark.parametrize("source", ["some@worst=0.1", "some@best=much", "some@best="])
def test_what_selects_nothing_is_refused(source):
    with pytest.raises(DataError, match=rf"'@{source.split('@')[1]}' selects nothing; write @best=0.1"):
        read(source, collected)


@pytest.mark.parametrize(
    "selection",
    [
        "best=0",
        "best=1.5",
        "best=nan",
        "every=0",
        "every=2.5",
        "max_cost=-1",
        "max_cost=nan",
        "times=0",
        "times=1.5",
        "times=nan",
        "times=inf",
    ],
)
def test_a_number_that_selects_nothing_is_refused(selection):
    with pytest.raises(DataError, match=rf"'some@{selection}': {selection}"):
        read(f"some@{selection}", collected)


def test_a_budget_that_no_episode_keeps_to_is_refused_with_what_the_cheapest_costs():
    with pytest.raises(DataError, match="max_cost=1 keeps no episode: the cheapest costs 20"):
        read("some@every=10@best=0.3@max_cost=1", lambda name: collected(name).take_episodes(range(20, 30)))


def test_the_best_of_data_without_rewards_is_refused():
    def unrewarded(name):
        return Dataset.from_arrays(np.zeros((4, 1)), np.zeros((4, 1)), timeouts=np.arange(4) == 3)

    for selection, what in (("best=0.5", "rewards"), ("max_cost=1", "costs")):
        with pytest.raises(DataError, match=f"has no {what}"):
            read(f"some@{selection}", unrewarded)
