"""Budgets that are spent step by step, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Spec
from reverie.errors import ReverieError
from reverie.planning.budgets import Ledger, budget_wish, evenly, with_episode_costs


def spent_by(costs, discount, budget=8.0):
    """The ledger before each step but the first."""
    ledger, found = Ledger.opened({"budget": np.float32([budget])}, 1).paid(jnp.array([9.0]), discount), []
    for cost in costs:
        ledger = ledger.stepped().paid(jnp.array([cost]), discount)
        found.append(float(ledger.spent[0]))
    return found, ledger


def test_costs_are_summed_and_what_comes_before_the_first_step_is_none():
    spent, ledger = spent_by([1.0, 2.0, 0.0, 4.0], 1.0)
    assert spent == [1, 3, 3, 7]
    assert float(ledger.left[0]) == 1
    assert int(ledger.step[0]) == 4


def test_discounted_costs_are_summed_from_the_episode_s_start():
    """1 + 2/2 + 0/4 + 4/8."""
    spent, ledger = spent_by([1.0, 2.0, 0.0, 4.0], 0.5)
    assert spent == [1, 2, 2, 2.5]
    assert float(ledger.left[0]) == 5.5


def test_another_budget_is_of_the_whole_episode():
    _, ledger = spent_by([1.0, 2.0], 1.0)
    again = ledger.asked({"budget": np.float32([5.0])})
    assert float(again.left[0]) == 2
    assert (again.spent == ledger.spent).all() and (again.step == ledger.step).all()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_what_is_spent_evenly_counts_as_the_discounted_sum_of_equal_parts(steps):
    parts = 0.9 ** np.arange(steps) / steps
    assert float(evenly(0.9, steps)) == pytest.approx(parts.sum(), rel=1e-5)
    assert float(evenly(1.0, steps)) == 1


def test_an_episode_beyond_the_longest_spends_as_in_its_last_step():
    np.testing.assert_allclose(evenly(0.9, jnp.array([1, 0, -3])), 1, rtol=1e-5)


def test_the_wish_has_the_range_of_what_episodes_cost():
    """Of episodes that cost 3 and 4, and discounted 2 each."""
    data = Dataset.from_arrays(np.zeros((4, 1)), np.zeros((4, 1)), timeouts=np.arange(4) % 2 == 1)
    spec = with_episode_costs(Spec.fit(data), np.array([3, 4]), np.array([2, 2]))
    (wish,) = budget_wish(spec).values()
    assert (wish.default, wish.low, wish.high, wish.unit) == (3, 3, 4, "cost")
    (wish,) = budget_wish(spec, discounted=True).values()
    assert (wish.low, wish.high, wish.unit) == (2, 2, "discounted cost")


def test_a_budget_below_0_is_refused():
    with pytest.raises(ReverieError, match=r"budget = -0\.5 is less than nothing; give 0 or more"):
        Ledger.opened({"budget": np.float32([1.0, -0.5])}, 2)
