"""Statistics over seeds and tasks, in cases whose answer is known."""

import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.evaluation.statistics import (
    WithInterval,
    aggregate,
    change,
    iqm,
    is_flat,
    mean,
    performance_profile,
    probability_of_improvement,
)


def normal(key, mean=0.0, seeds=4, episodes=10, between=1.0, within=1.0):
    """[S, E] of seeds and episodes that both vary."""
    rng = np.random.default_rng(key)
    return mean + between * rng.normal(size=(seeds, 1)) + within * rng.normal(size=(seeds, episodes))


@pytest.mark.parametrize("statistic", [mean, iqm])
def test_scores_that_are_all_equal_have_an_interval_of_no_width(statistic):
    found = aggregate({"a": np.full((4, 20), 0.1), "b": np.full((3, 5), 0.1)}, statistic)
    assert found.low == found.high == pytest.approx(0.1)
    assert found.value == pytest.approx(0.1)


def test_tasks_weigh_the_same_in_the_mean_however_many_seeds_they_have():
    assert aggregate({"a": np.zeros((2, 3)), "b": np.full((6, 1), 10.0)}).value == 5


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    runs = {"a": [[-1000.0], [1.0]], "b": [[2.0], [3.0]], "c": [[4.0], [5.0]], "d": [[6.0], [9999.0]]}
    assert aggregate(runs, iqm).value == np.mean([2, 3, 4, 5])


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    """20 seeds of one episode: the percentile bootstrap of 20 normal values covers 93 %, and 400 draws know a share to
    a standard error of 1.3 %."""
    covers = [
        3.0 in aggregate({"a": normal(key, 3.0, seeds=20, episodes=1)}, key=key, resamples=500) for key in range(400)
    ]
    assert 0.89 < np.mean(covers) < 0.97


def test_the_episodes_of_a_seed_are_resampled_too():
    """Seeds that differ in nothing: all of the width is the episodes', 1.96 standard errors on either side."""
    episodes = np.random.default_rng(0).normal(size=50)
    found = aggregate({"a": np.tile(episodes, (4, 1))})
    assert found.high - found.low == pytest.approx(2 * 1.96 * episodes.std() / np.sqrt(200), rel=0.1)


@pytest.mark.parametrize("statistic", [mean, iqm])
def test_tasks_are_not_resampled(statistic):
    """One seed and one episode a task, which differ greatly: nothing is left to resample."""
    found = aggregate({task: [[float(value)]] for task, value in enumerate([0, 50, 100, 1000])}, statistic)
    assert found.low == found.high == found.value


def test_the_same_key_gives_the_same_interval_and_another_key_another():
    scores = {"a": normal(0)}
    assert aggregate(scores) == aggregate(scores) != aggregate(scores, key=1)


def test_what_is_always_above_improves_with_certainty_and_ties_are_halves():
    low, high = {"a": normal(0), "b": normal(1)}, {"a": normal(2) + 100, "b": normal(3) + 100}
    assert probability_of_improvement(high, low) == WithInterval(1, 1, 1)
    assert probability_of_improvement(low, high) == WithInterval(0, 0, 0)
    same = {"a": np.ones((4, 5))}
    assert probability_of_improvement(same, same) == WithInterval(0.5, 0.5, 0.5)


def test_improvement_is_of_pairs_of_runs_averaged_over_the_tasks_both_have():
    one, two = {"a": [[1.0], [3.0]], "b": [[5.0]], "c": [[0.0]]}, {"a": [[2.0], [3.0]], "b": [[6.0]]}
    # On a: 1 > 2, 1 > 3 no; 3 > 2 yes; 3 = 3 half. On b: no.
    assert probability_of_improvement(one, two).value == pytest.approx((1.5 / 4 + 0) / 2)


def test_the_interval_of_improvement_contains_a_half_for_draws_of_one_distribution():
    """Of 100 pairs, of which 5 are expected outside and 4 seeds make it some more."""
    inside = [
        0.5 in probability_of_improvement({"a": normal(key)}, {"a": normal(1000 + key)}, key=key, resamples=300)
        for key in range(100)
    ]
    assert np.mean(inside) > 0.85


def test_a_profile_is_the_share_of_runs_above_each_threshold():
    share, low, high = performance_profile({"a": [[1.0], [3.0]], "b": [[2.0], [2.0]]}, [0, 1, 2, 2.5, 3])
    np.testing.assert_array_equal(share, [1, 0.75, 0.25, 0.25, 0])
    assert (low <= share).all()
    assert (share <= high).all()
    assert low[0] == high[0] == 1
    assert low[3] < high[3]


def test_a_rising_curve_is_not_flat():
    before = normal(0, 40.0, between=10)
    assert not is_flat(change(before, before + 5 + 0.5 * normal(1)))
    assert not is_flat(change(before, before - 5 + 0.5 * normal(1)))


def test_a_noisy_curve_that_neither_rises_nor_falls_is_flat():
    """The second one changes beyond the tolerance, by chance."""
    quiet = normal(0, 40.0, between=10)
    assert is_flat(change(quiet, quiet + 1))
    noisy = change(normal(1, 40.0, within=30), normal(2, 40.0, within=30))
    assert abs(noisy.value) > 2
    assert is_flat(noisy)


def test_the_change_is_paired():
    """Seeds that are far apart and all rise alike: no width, and no flatness."""
    before = normal(0, between=1000)
    assert change(before, before + 3).high - change(before, before + 3).low == pytest.approx(0, abs=1e-9)
    assert not is_flat(change(before, before + 3))


@pytest.mark.parametrize("scores", [{}, {"a": [1.0, 2.0]}, {"a": np.zeros((0, 3))}])
def test_scores_of_another_shape_are_refused(scores):
    with pytest.raises(ReverieError, match="scores"):
        aggregate(scores)


def test_a_change_of_other_seeds_is_refused():
    with pytest.raises(ReverieError, match=r"\[4, 10\] and \[3, 10\]"):
        change(normal(0), normal(0, seeds=3))
