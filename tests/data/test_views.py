"""Transitions and windows against hand-computed numbers, and how batches are drawn."""

import jax
import numpy as np
import pytest
from scipy import stats

from reverie.data import Dataset, Gaussian, MinMax, Spec, rewards_to_go, transitions, windows
from reverie.errors import DataError


def data(**changed):
    """Three episodes: rows 0-3 to a terminal, 4-6 cut by a timeout, 7-8 to a terminal. Row i observes [i, 10 i]."""
    rows = np.arange(9.0)
    given = {
        "observations": np.stack([rows, 10 * rows], axis=1),
        "actions": rows[:, None] / 10,
        "rewards": [1, 2, 3, 4, 10, 20, 30, 5, 6],
        "terminals": np.isin(rows, [3, 8]),
        "timeouts": rows == 6,
    }
    return Dataset.from_arrays(**given | changed)


def plain(data):
    return Spec.fit(data)


# Transitions


def test_successors_are_derived_and_a_cut_episodes_last_step_is_left_out():
    view = transitions(data(), plain(data()))
    np.testing.assert_array_equal(view.rows["observations"][:, 0], [0, 1, 2, 3, 4, 5, 7, 8])
    np.testing.assert_array_equal(view.rows["next_observations"][:, 0], [1, 2, 3, 3, 5, 6, 8, 8])
    np.testing.assert_array_equal(view.rows["terminals"], [0, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(view.rows["rewards"], [1, 2, 3, 4, 10, 20, 5, 6])
    assert len(view) == 8


def test_a_row_that_is_both_terminal_and_cut_is_kept():
    both = data(timeouts=np.isin(np.arange(9), [3, 6]))
    np.testing.assert_array_equal(transitions(both, plain(both)).rows["observations"][:, 0], [0, 1, 2, 3, 4, 5, 7, 8])


def test_given_successors_are_used_and_nothing_is_left_out():
    given = data(next_observations=np.arange(18.0).reshape(9, 2) + 100)
    view = transitions(given, plain(given))
    np.testing.assert_array_equal(view.rows["next_observations"], given.next_observations)
    assert len(view) == 9


def test_transitions_are_normalised_and_successors_like_observations():
    source = data()
    spec = Spec.fit(source, observations=Gaussian, actions=MinMax, rewards=Gaussian)
    rows = transitions(source, spec).rows
    mean, std = source.observations.mean(axis=0), source.observations.std(axis=0)
    np.testing.assert_allclose(rows["observations"][1], (source.observations[1] - mean) / std, rtol=1e-5)
    np.testing.assert_allclose(rows["next_observations"][1], (source.observations[2] - mean) / std, rtol=1e-5)
    np.testing.assert_allclose(rows["actions"][0], [-1])
    np.testing.assert_allclose(rows["rewards"][0], (1 - 9) / np.std(source.rewards), rtol=1e-5)


def test_successors_may_have_a_normaliser_of_their_own():
    source = data().with_next_observations()
    spec = Spec.fit(source, observations=Gaussian, next_observations=MinMax)
    rows = transitions(source, spec).rows
    assert (rows["next_observations"].min(), rows["next_observations"].max()) == (-1, 1)
    assert abs(rows["observations"].mean()) < 1e-6


def test_transitions_without_rewards_have_none():
    without = data(rewards=None)
    assert "rewards" not in transitions(without, plain(without)).draw(jax.random.key(0), 2)


def test_one_step_episodes_that_are_all_cut_have_no_transition():
    cut = data(terminals=None, timeouts=np.ones(9))
    with pytest.raises(DataError, match="no step has a successor; give 'next_observations'"):
        transitions(cut, plain(cut))


# Windows


def firsts(view):
    return np.asarray(view.starts).tolist()


@pytest.mark.parametrize(
    "horizon, stride, pad, starts, skipped",
    [
        (1, 1, False, [0, 1, 2, 3, 4, 5, 6, 7, 8], 0),
        (2, 1, False, [0, 1, 2, 4, 5, 7], 0),
        (3, 1, False, [0, 1, 4], 1),
        (4, 1, False, [0], 2),
        (2, 2, False, [0, 1, 4], 1),
        (2, 3, False, [0], 2),
        (3, 1, True, [0, 1, 2, 3, 4, 5, 6, 7, 8], 0),
    ],
)
def test_starts(horizon, stride, pad, starts, skipped):
    view = windows(data(), plain(data()), horizon, stride=stride, pad=pad)
    assert firsts(view) == starts
    assert view.skipped == skipped


def test_a_horizon_longer_than_every_episode_names_the_longest():
    with pytest.raises(DataError, match=r"horizon 3 with stride 2 \(5 steps\): the longest has 4; shorten"):
        windows(data(), plain(data()), 3, stride=2)


@pytest.mark.parametrize("horizon, stride", [(0, 1), (2, 0)])
def test_sizes_below_one_are_refused(horizon, stride):
    with pytest.raises(DataError, match="must both be at least 1"):
        windows(data(), plain(data()), horizon, stride=stride)


def test_rewards_to_go_by_hand():
    np.testing.assert_array_equal(rewards_to_go(data()), [10, 9, 7, 4, 60, 50, 30, 11, 6])
    discounted = [1 + 0.5 * 4.5 + 1.25 - 0.75, 4.5 + 0.5, 5.0, 4, 10 + 10 + 7.5, 35, 30, 8, 6]
    # 1 + 2/2 + 3/4 + 4/8 = 3.25; 2 + 3/2 + 4/4 = 4.5; 3 + 4/2 = 5
    discounted[:3] = [3.25, 4.5, 5.0]
    np.testing.assert_array_equal(rewards_to_go(data(), discount=0.5), discounted)


def test_the_penalty_falls_on_terminals_only():
    penalised = rewards_to_go(data(), discount=0.5, termination_penalty=-100)
    difference = penalised - rewards_to_go(data(), discount=0.5)
    np.testing.assert_array_equal(difference, [-12.5, -25, -50, -100, 0, 0, 0, -50, -100])


def test_rewards_to_go_are_summed_in_double_precision():
    steps = 100_000
    long = Dataset.from_arrays(
        np.zeros((steps, 1)), np.zeros((steps, 1)), np.full(steps, 0.1), timeouts=np.arange(steps) == steps - 1
    )
    exact = steps * float(np.float32(0.1))
    assert abs(rewards_to_go(long)[0] - exact) < 1e-6
    assert windows(long, plain(long), 2).returns[0] == np.float32(exact)


def test_windows_by_hand_with_stride_returns_and_padding():
    view = windows(data(), plain(data()), 3, stride=2, pad=True, discount=0.5, termination_penalty=-100)
    batch = view.take(np.array([0, 1, 5, 8]))
    np.testing.assert_array_equal(batch["observations"][..., 0], [[0, 2, 0], [1, 3, 0], [5, 0, 0], [8, 0, 0]])
    np.testing.assert_array_equal(batch["observations"][..., 1], [[0, 20, 0], [10, 30, 0], [50, 0, 0], [80, 0, 0]])
    np.testing.assert_allclose(batch["actions"][..., 0], [[0, 0.2, 0], [0.1, 0.3, 0], [0.5, 0, 0], [0.8, 0, 0]])
    np.testing.assert_array_equal(batch["mask"], [[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(batch["returns"], [3.25 - 12.5, 4.5 - 25, 35, 6 - 100])


def test_padding_is_zero_before_normalisation():
    spec = Spec.fit(data(), observations=Gaussian, actions=MinMax)
    batch = windows(data(), spec, 2, pad=True).take(np.array([8]))
    np.testing.assert_allclose(
        batch["observations"][0, 1], -data().observations.mean(axis=0) / data().observations.std(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(batch["actions"][0, 1], [-1])


def test_windows_without_rewards_have_no_returns():
    without = data(rewards=None)
    assert "returns" not in windows(without, plain(without), 2).draw(jax.random.key(0), 2)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("stride", [1, 3])
def test_windows_never_cross_episodes(pad, stride):
    """Each row carries its episode's number and its step; all windows are looked at."""
    lengths = np.random.default_rng(0).integers(1, 40, 30)
    episode, step = np.repeat(np.arange(30), lengths), np.concatenate([np.arange(n) for n in lengths])
    source = Dataset.from_arrays(
        np.stack([episode, step], axis=1), np.zeros((len(step), 1)), timeouts=np.append(np.diff(episode) > 0, True)
    )
    view = windows(source, plain(source), 5, stride=stride, pad=pad)
    batch = {key: np.asarray(value) for key, value in view.take(np.arange(len(view))).items()}
    inside = batch["mask"] == 1
    number, steps = batch["observations"][..., 0], batch["observations"][..., 1]
    assert (number == number[:, :1])[inside].all()
    assert (steps == steps[:, :1] + stride * np.arange(5))[inside].all()
    assert inside[:, 0].all() and (inside.all() or pad)
    assert (np.diff(batch["mask"], axis=1) <= 0).all()
    left = lengths[number[:, 0].astype(int)] - steps[:, 0]
    np.testing.assert_array_equal(inside.sum(axis=1), np.minimum(5, np.ceil(left / stride)))


# Drawing


@pytest.mark.parametrize(
    "build", [transitions, lambda data, spec: windows(data, spec, 2)], ids=["transitions", "windows"]
)
def test_every_start_is_equally_likely_and_draws_are_reproducible(build):
    view = build(data(), plain(data()))
    draw = jax.jit(lambda view, key: view.draw(key, 6000))
    batch = draw(view, jax.random.key(3))
    first = np.asarray(batch["observations"]).reshape(6000, -1)[:, 0]
    rows, counts = np.unique(first, return_counts=True)
    assert len(rows) == len(view)
    assert stats.chisquare(counts).pvalue > 0.01
    again, other = draw(view, jax.random.key(3)), draw(view, jax.random.key(4))
    np.testing.assert_array_equal(batch["actions"], again["actions"])
    assert (batch["actions"] != other["actions"]).any()


def test_the_parts_of_a_batch_belong_together():
    batch = transitions(data(), plain(data())).draw(jax.random.key(0), 64)
    row = np.asarray(batch["observations"][:, 0]).astype(int)
    np.testing.assert_array_equal(batch["rewards"], data().rewards[row])
    np.testing.assert_array_equal(batch["terminals"], data().terminals[row])
    np.testing.assert_allclose(batch["actions"][:, 0], row / 10, rtol=1e-6)


@pytest.mark.parametrize(
    "build", [transitions, lambda data, spec: windows(data, spec, 3)], ids=["transitions", "windows"]
)
def test_a_views_arrays_are_arguments_and_not_constants_of_the_program(build):
    steps = 5000
    large = Dataset.from_arrays(
        np.zeros((steps, 4)), np.zeros((steps, 2)), np.zeros(steps), timeouts=np.arange(steps) % 50 == 49
    )
    view = build(large, plain(large))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(view))
    jaxpr = jax.make_jaxpr(lambda view, key: view.draw(key, 8))(view, jax.random.key(0))
    assert all(np.size(constant) < 100 for constant in jaxpr.consts)


def test_windows_take_memory_in_proportion_to_the_steps_and_not_to_the_horizon():
    steps = 2000
    long = Dataset.from_arrays(np.zeros((steps, 8)), np.zeros((steps, 2)), timeouts=np.arange(steps) == steps - 1)
    size = [sum(leaf.nbytes for leaf in jax.tree.leaves(windows(long, plain(long), h, pad=True))) for h in (2, 200)]
    assert size[0] == size[1]
