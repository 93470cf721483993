"""Receding horizon: only the environments that are due get other plans, and nothing is computed where none is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.planning import Plan, replan

ROWS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 2)), jnp.float32)
DUE = jnp.array([True, False, False, True])
OTHERS = jnp.array([False, False, True, False])
NONE = jnp.zeros(4, bool)


def anew(rows):
    return 10 + jnp.cumsum(rows, 1)


def warm(rows):
    return -rows


def test_before_the_first_step_there_is_no_plan():
    rows, step = Plan.none(3, 5, 2)
    np.testing.assert_array_equal(rows, np.zeros((3, 5, 2)))
    np.testing.assert_array_equal(step, [0, 0, 0])
    assert step.dtype == jnp.int32


def test_a_shifted_plan_begins_one_row_later_with_its_last_row_twice():
    rows, step = Plan(ROWS, jnp.array([0, 1, 5, 7])).shifted()
    np.testing.assert_array_equal(rows, np.stack([ROWS[:, 1], ROWS[:, 2], ROWS[:, 2]], 1))
    np.testing.assert_array_equal(step, [1, 2, 6, 8])


def test_only_the_environments_that_are_due_change():
    found = jax.jit(lambda rows: replan(rows, (DUE, anew)))(ROWS)
    np.testing.assert_array_equal(found[1:3], ROWS[1:3])
    np.testing.assert_array_equal(found[::3], anew(ROWS)[::3])


def test_some_are_made_anew_and_others_from_themselves():
    """Each from the rows that were given, whatever became of the others."""
    found = jax.jit(lambda rows: replan(rows, (DUE, anew), (OTHERS, warm)))(ROWS)
    np.testing.assert_array_equal(found, jnp.stack([anew(ROWS)[0], ROWS[1], -ROWS[2], anew(ROWS)[3]]))


@pytest.mark.parametrize(
    "first, then, expected",
    [(NONE, NONE, []), (DUE, NONE, ["anew"]), (NONE, OTHERS, ["warm"]), (DUE, OTHERS, ["anew", "warm"])],
)
def test_nothing_is_computed_where_no_environment_is_due(first, then, expected):
    made = []

    def counted(name, make):
        def count(rows):
            jax.debug.callback(lambda: made.append(name))
            return make(rows)

        return count

    step = jax.jit(lambda rows, a, b: replan(rows, (a, counted("anew", anew)), (b, counted("warm", warm))))
    found = step(ROWS, first, then)
    jax.effects_barrier()
    assert sorted(made) == expected
    if not expected:
        np.testing.assert_array_equal(found, ROWS)


@pytest.mark.parametrize("due", [False, True])
def test_nothing_is_computed_for_a_batch_of_seeds_none_of_which_is_due(due):
    """Where a branch would compute both sides."""
    made = []

    def make(rows):
        jax.debug.callback(lambda: made.append(1))
        return anew(rows)

    both = jnp.stack([ROWS, ROWS]), jnp.array([[due] * 4, [False] * 4])
    found = jax.jit(jax.vmap(lambda rows, due: replan(rows, (due, make))))(*both)
    jax.effects_barrier()
    assert bool(made) == due
    np.testing.assert_array_equal(found[0], anew(ROWS) if due else ROWS)
    np.testing.assert_array_equal(found[1], ROWS)


def test_environments_side_by_side_are_as_each_alone():
    """Whose plans are made in a batch and whose are not, over steps at which others are due each time."""

    def step(rows, due):
        return replan(rows, (due[0], anew), (due[1] & ~due[0], warm))

    dues = jax.random.bernoulli(jax.random.key(0), 0.4, (6, 2, 4))
    together, alone = ROWS, [ROWS[i : i + 1] for i in range(4)]
    for due in dues:
        together = step(together, due)
        alone = [step(rows, due[:, i : i + 1]) for i, rows in enumerate(alone)]
    np.testing.assert_array_equal(together, jnp.concatenate(alone))
    assert not np.array_equal(together, ROWS)
