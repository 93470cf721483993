"""Whole episodes of unequal lengths."""

import numpy as np
import pytest

from reverie.collection.episodes import chained, record, whole_episodes
from reverie.data import Dataset
from reverie.data.fields import unflatten


class Counting:
    """Counts from the seed in steps of the action; ends as the task does at 10, is cut after four steps."""

    def reset(self, seed, options=None):
        self.at, self.steps = float(seed) + (options or {}).get("more", 0), 0
        return {"at": np.array([self.at], np.float32)}, {}

    def step(self, action):
        self.at, self.steps = self.at + float(action[0]), self.steps + 1
        seen = {"at": np.array([self.at], np.float32)}
        return seen, self.at / 2, self.at >= 10, self.steps == 4, {"double": 2 * self.at, "other": 0}


def test_as_many_episodes_as_come_nearest_to_the_steps():
    assert [part.steps for part in whole_episodes(700, 100, 3, 0)] == [300, 300, 100]
    assert [sum(part.steps for part in whole_episodes(n, 100, 3, 0)) for n in (1, 149, 151)] == [100, 100, 200]
    assert [(part.index, part.seed) for part in whole_episodes(400, 100, 3, 9)] == [(0, 9), (1, 9)]


@pytest.mark.parametrize(
    ("start", "states", "terminal"), [(0, [0, 2, 4, 6], False), (2, [2, 4, 6, 8], True), (7, [7, 9], True)]
)
def test_an_episode_is_recorded_to_its_end(start, states, terminal):
    rows = record(Counting(), start, lambda seen: seen["at"] * 0 + 2, ("double",))
    after = np.array(states) + 2
    np.testing.assert_array_equal(rows["observations/at"][:, 0], states)
    np.testing.assert_array_equal(rows["next_observations/at"][:, 0], after)
    np.testing.assert_array_equal(rows["infos/double"], 2 * after)
    np.testing.assert_array_equal(rows["rewards"], after / 2)
    assert rows["actions"].shape == (len(states), 1) and "infos/other" not in rows
    ends = np.arange(len(states)) == len(states) - 1
    np.testing.assert_array_equal(rows["terminals"], ends & terminal)
    np.testing.assert_array_equal(rows["timeouts"], ends & (not terminal))


def test_an_episode_may_begin_elsewhere_and_be_cut_earlier():
    act = lambda seen: seen["at"] * 0 + 2  # noqa: E731
    rows = record(Counting(), 0, act, (), options={"more": 3}, most=2)
    np.testing.assert_array_equal(rows["observations/at"][:, 0], [3, 5])
    np.testing.assert_array_equal(rows["timeouts"], [False, True])
    ended = record(Counting(), 0, act, (), options={"more": 7}, most=2)
    np.testing.assert_array_equal(ended["terminals"], [False, True])
    assert not ended["timeouts"].any()


def test_rows_become_a_data_set():
    rows = chained([record(Counting(), start, lambda seen: np.array([2.0]), ("double",)) for start in (0, 7)])
    data = Dataset.from_arrays(**unflatten(rows))
    np.testing.assert_array_equal(data.episodes, [[0, 4], [4, 6]])
    assert set(data.arrays()) >= {"observations/at", "next_observations/at", "infos/double"}
