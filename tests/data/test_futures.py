"""Pairs of a step and its future: by hand, what terminals and cuts do, and what is drawn how often."""

import jax
import numpy as np
import pytest

from reverie.data import Dataset, Spec, futures, geometric_offsets, longest_offset
from reverie.data.host import on_host
from reverie.errors import DataError

DISCOUNT = 0.8


def data(**changed):
    """Three episodes: rows 0-3 to a terminal, 4-6 cut by a timeout, 7-8 to a terminal. Row i observes i."""
    rows = np.arange(9.0)
    given = {
        "observations": rows[:, None],
        "actions": rows[:, None] / 10,
        "rewards": rows,
        "terminals": np.isin(rows, [3, 8]),
        "timeouts": rows == 6,
    }
    return Dataset.from_arrays(**given | changed)


def data_of(steps, **ends):
    return Dataset.from_arrays(np.zeros((steps, 1)), np.zeros((steps, 1)), **ends)


def view(longest=4, source=None):
    source = source or data()
    return futures(source, Spec.fit(source), DISCOUNT, longest)


def test_a_terminal_ends_the_future_and_a_cut_leaves_it_unknown():
    made = view()
    np.testing.assert_array_equal(made.last, [3, 3, 3, 3, 6, 6, 6, 8, 8])
    np.testing.assert_array_equal(made.reach, [4, 4, 4, 4, 2, 1, 0, 4, 4])
    batch = made.take(np.array([[0, 1], [0, 3], [0, 4], [3, 1], [4, 2], [7, 1], [7, 2]]))
    np.testing.assert_array_equal(batch["futures"][:, 0], [1, 3, 3, 3, 6, 8, 8])
    np.testing.assert_array_equal(batch["alive"], [1, 1, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(batch["offsets"], [1, 3, 4, 1, 2, 1, 2])
    np.testing.assert_array_equal(batch["rewards"], [0, 0, 0, 3, 4, 7, 7])
    assert set(batch) == {"observations", "actions", "rewards", "futures", "offsets", "alive", "weights", "index"}


def test_a_terminal_in_the_middle_of_an_episode_ends_the_future_of_the_steps_before_alone():
    rows = np.arange(6)
    made = view(3, Dataset.from_arrays(rows[:, None] * 1.0, rows[:, None] / 10, terminals=rows == 2, ends=rows == 5))
    np.testing.assert_array_equal(made.last, [2, 2, 2, 5, 5, 5])
    np.testing.assert_array_equal(made.reach, [3, 3, 3, 2, 1, 0])


def test_weighted_pairs_are_as_frequent_as_the_discount_has_them():
    """Of all that is known each row's offset k counts discount^(k - 1), by how seldom its like is known: of 7 futures
    that do not end at once 1 is cut, of 4 that go on 1 more, and of 2 another one."""
    batch = view().draw(jax.random.key(0), 200_000)
    found = np.zeros((9, 5))
    np.add.at(found, tuple(np.asarray(batch["index"]).T), np.asarray(batch["weights"], np.float64))
    reach, offsets = np.asarray(view().reach), np.arange(5)
    known = (offsets >= 1) & (offsets <= reach[:, None])
    recorded = np.array([1, 6 / 7, 9 / 14, 9 / 28, 9 / 28])
    left = np.array([3, 2, 1, 0, 2, 1, 0, 1, 0])
    np.testing.assert_allclose(view().recorded, recorded, rtol=1e-6)
    expected = known * DISCOUNT ** (offsets - 1.0) / recorded[np.minimum(offsets, left[:, None])]
    expected /= 9 * (DISCOUNT ** (offsets[1:] - 1.0)).sum()
    np.testing.assert_allclose(found / 200_000, expected, atol=5 * 28 / 9 / 9 / np.sqrt(200_000 / 9))
    assert found[6].sum() == 0


def test_weights_make_up_for_what_is_cut():
    """Of episodes that end with probability 1/4 a step and are cut with 1/3, what is known, weighted, survives as long
    as all would: by the rows of all futures together."""
    rng = np.random.default_rng(0)
    lengths, cuts = rng.geometric(1 / 4, 20_000), rng.geometric(1 / 3, 20_000)
    last = np.cumsum(np.minimum(lengths, cuts)) - 1
    ends = np.zeros((2, last[-1] + 1), bool)
    ends[(lengths > cuts).astype(int), last] = True
    source = data_of(len(ends[0]), terminals=ends[0], timeouts=ends[1])
    batch = view(6, source).draw(jax.random.key(0), 100_000)
    for offset in range(1, 6):
        mine = np.asarray(batch["offsets"]) == offset
        alive = np.average(np.asarray(batch["alive"])[mine], weights=np.asarray(batch["weights"])[mine])
        assert alive == pytest.approx(0.75**offset, abs=0.03)


def test_offsets_are_quantiles_of_the_geometric_distribution():
    uniform = (np.arange(1000) + 0.5) / 1000
    found = np.asarray(geometric_offsets(DISCOUNT, 3, uniform))
    share = DISCOUNT ** np.arange(3) / (DISCOUNT ** np.arange(3)).sum()
    np.testing.assert_allclose(np.bincount(found, minlength=4)[1:] / 1000, share, atol=1e-3)
    np.testing.assert_array_equal(geometric_offsets(DISCOUNT, np.array([0, 1]), np.array([0.9, 0.9])), [1, 1])
    assert geometric_offsets(DISCOUNT, 7, np.float32(1 - 2**-24)) == 7


def test_the_longest_offset_is_of_the_discount_or_of_the_data():
    assert longest_offset(data(), DISCOUNT) == 31  # 0.8^31 = 0.001
    cut = np.isin(np.arange(9), [3, 6, 8])
    assert longest_offset(data(terminals=np.zeros(9), timeouts=cut), DISCOUNT) == 3
    with pytest.raises(DataError, match="Every episode is one step cut by a timeout"):
        longest_offset(data(terminals=np.zeros(9), timeouts=np.ones(9)), DISCOUNT)


def test_the_same_batch_is_taken_on_the_host():
    made = view()
    index = made.index(jax.random.key(1), 16)
    mine, theirs = made.take(index), on_host(made).take(np.asarray(index))
    for name, rows in theirs.items():
        assert isinstance(rows, np.ndarray)
        np.testing.assert_array_equal(mine[name], rows)
