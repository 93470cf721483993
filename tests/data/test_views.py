"""Transitions against hand-computed numbers, and how batches are drawn from every view."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from reverie.data import Dataset, Gaussian, MinMax, Spec, pairs, rewards_to_go, sarsa, transitions, windows
from reverie.data.views import Transitions
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


# Rewards to go


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
    assert windows(long, plain(long), 2).per_window["returns"][0] == np.float32(exact)


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


@pytest.mark.parametrize(
    "build", [transitions, lambda data, spec: windows(data, spec, 2, pad=True)], ids=["transitions", "windows"]
)
def test_a_draw_is_what_its_own_numbers_take_in_any_shape(build):
    view = build(data(), plain(data()))
    take = jax.jit(lambda view, index: view.take(index))
    drawn, index = jax.jit(lambda view, key: (view.draw(key, 6), view.index(key, 6)))(view, jax.random.key(5))
    assert index.dtype == np.int32
    np.testing.assert_array_equal(drawn["index"], index)
    for shape in ((6,), (2, 3)):
        again = take(view, index.reshape(shape))
        assert set(again) == set(drawn)
        for name, column in drawn.items():
            np.testing.assert_array_equal(again[name], column.reshape(*shape, *column.shape[1:]))


# Columns


def with_costs(source, costs):
    object.__setattr__(source, "costs", np.asarray(costs, np.float32))
    return source


def test_costs_are_drawn_and_normalised_where_the_data_have_them():
    source = with_costs(data(next_observations=np.zeros((9, 2))), np.arange(9) % 3)
    np.testing.assert_array_equal(transitions(source, plain(source)).rows["costs"], np.arange(9) % 3)
    spec = replace(plain(source), normalisers={"costs": MinMax(jnp.zeros(1), jnp.full(1, 2.0))})
    np.testing.assert_array_equal(transitions(source, spec).rows["costs"], np.arange(9) % 3 - 1)
    assert "costs" not in transitions(data(), plain(data())).rows


def test_sarsa_by_hand():
    """Rows 3 and 8 are terminals and keep their own action; row 6 is cut and left out."""
    rows = sarsa(data(), plain(data())).rows
    np.testing.assert_array_equal(rows["observations"][:, 0], [0, 1, 2, 3, 4, 5, 7, 8])
    np.testing.assert_array_equal(rows["next_observations"][:, 0], [1, 2, 3, 3, 5, 6, 8, 8])
    np.testing.assert_allclose(rows["next_actions"][:, 0], [0.1, 0.2, 0.3, 0.3, 0.5, 0.6, 0.8, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(rows["rewards"], [1, 2, 3, 4, 10, 20, 5, 6])


def test_columns_are_joined_and_those_of_several_parts_too():
    view = Transitions({"actions": jnp.arange(4.0)[:, None]})
    both = view.joined({"seen": {"image": np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3), "state": jnp.arange(4)}})
    batch = both.take(np.array([2, 0]))
    np.testing.assert_array_equal(batch["actions"][:, 0], [2, 0])
    np.testing.assert_array_equal(batch["seen"]["state"], [2, 0])
    assert batch["seen"]["image"].dtype == np.uint8
    np.testing.assert_array_equal(batch["seen"]["image"][:, 0, 0, 0], [24, 0])
    assert set(view.rows) == {"actions"}


def test_joined_columns_of_another_length_are_refused():
    """On the device a row beyond the end would silently be the last one."""
    with pytest.raises(DataError, match=r"one row each .* 'actions' 9; 'extra' 8\."):
        pairs(data(), plain(data())).joined({"actions": jnp.zeros((9, 1)), "observations": jnp.zeros((9, 2))}).joined(
            {"extra": jnp.zeros(8)}
        )


def test_what_an_update_writes_is_drawn_later():
    view = pairs(data(), plain(data()))

    @jax.jit
    def update(view, key):
        batch = view.draw(key, 4)
        return view.written(batch["index"], {"actions": batch["actions"] - 7}), batch

    changed, batch = update(view, jax.random.key(0))
    at = np.unique(batch["index"])
    expected = np.array(view.rows["actions"])
    expected[at] -= 7
    np.testing.assert_array_equal(changed.rows["actions"], expected)
    np.testing.assert_array_equal(changed.rows["observations"], view.rows["observations"])
    np.testing.assert_array_equal(changed.take(at)["actions"], expected[at])
    with pytest.raises(DataError, match="no 'weights' to write; it has actions, observations"):
        view.written(jnp.arange(2), {"weights": jnp.zeros(2)})


def test_bytes_of_a_view_by_hand():
    assert pairs(data(), plain(data())).nbytes == 9 * (2 + 1) * 4
