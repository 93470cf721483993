"""TREBI: what its budget does to guidance and to the choice among candidates, with values that are known."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Gaussian
from reverie.errors import DataError, ReverieError
from reverie.learning import Optimised
from reverie.planners import TREBI, Diffuser, diffuser
from reverie.planners.trebi import State, within
from reverie.planning.budgets import Ledger

SIZES = {"horizon": 4, "width": 8, "multipliers": (1,), "diffusion_steps": 4, "guidance_steps": 1, "guidance_stop": 0}
SMALL = TREBI(**SIZES, candidates=3, discount=0.5, termination_cost=10.0)
DIFFUSER = Diffuser(**SIZES, candidates=3, discount=0.5)
LENGTH = 4


def data(**changed) -> Dataset:
    """Three episodes of four steps, the last of which ends with the task; step k of an episode costs k."""
    rng, step = np.random.default_rng(0), np.arange(12) % LENGTH
    arrays = {
        "observations": rng.normal(size=(12, 1)),
        "actions": rng.uniform(-1, 1, (12, 1)),
        "rewards": rng.normal(size=12),
        "costs": step,
        "terminals": np.arange(12) == 11,
        "timeouts": (step == 3) & (np.arange(12) < 11),
    }
    return Dataset.from_arrays(**arrays | changed)


SPEC = SMALL.prepare(data())[1]


class Sum(eqx.Module):
    """A value that is the sum of a window's rows but the first, times a slope; with a wave on it, if any."""

    slope: jax.Array
    wave: float = eqx.field(static=True, default=0.0)

    def __call__(self, x, t):
        return (self.slope * x + self.wave * jnp.sin(5 * x))[..., 1:, :].sum((-1, -2))


class Shrink(eqx.Module):
    """A denoiser that predicts a share of what it sees."""

    share: jax.Array

    def __call__(self, x, t, condition=None):
        return self.share * x


def known(returns=1.0, costs=1.0, wave=0.0):
    """A state whose values are `Sum`s, in units that are the data's."""
    nets = [Shrink(jnp.float32(0.8)), Sum(jnp.float32(returns), wave), Sum(jnp.float32(costs), wave)]
    pairs = [each for net in nets for each in (Optimised.create(net, SMALL.optimiser), net)]
    units = {name: Gaussian(jnp.zeros(1), jnp.ones(1)) for name in ("returns", "costs_to_go")}
    step = jnp.zeros((), jnp.int32)
    return State(*pairs[:4], step, *pairs[4:]), replace(SPEC, normalisers=SPEC.normalisers | units)


def plain(state):
    """Of Diffuser, what it would have learned."""
    return diffuser.State(state.denoiser, state.denoiser_ema, state.value, state.value_ema, state.step)


def carry(budget, n=3, algorithm=SMALL):
    return algorithm.reset(SPEC, n, {"budget": np.full(n, budget, np.float32)})


act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)
plan_of = jax.jit(lambda algorithm, *arguments: algorithm.plan(*arguments), static_argnums=0)


@pytest.mark.parametrize("cost_weighting", ["constant", "soft"])
def test_without_a_limit_it_is_diffuser_bit_for_bit(cost_weighting):
    algorithm, seen, key = replace(SMALL, cost_weighting=cost_weighting), jnp.array([[0.3], [-1.0]]), jax.random.key(1)
    (state, spec), feedback = known(wave=0.3), {"cost": jnp.array([2.0, 7.0])}
    mine, after = act(algorithm, state, spec, seen, carry(np.inf, 2), feedback, key)
    expected, last = act(DIFFUSER, plain(state), spec, seen, DIFFUSER.reset(spec, 2, {}), feedback, key)
    np.testing.assert_array_equal(mine, expected)
    np.testing.assert_array_equal(after[0].rows, last.rows)
    limited = act(algorithm, state, spec, seen, carry(0.0, 2), feedback, key)[0]
    assert not np.array_equal(limited, expected)


def test_within_the_budget_the_return_decides_and_beyond_it_the_cost():
    returns = jnp.array([[1.0, 5.0, 3.0]] * 3)
    costs = jnp.array([[1.0, 3.0, 2.0], [1.0, 3.0, 2.0], [2.0, 3.0, 1.5]])
    ranks = within(returns, costs, jnp.array([[3.0], [2.0], [1.0]]))
    np.testing.assert_array_equal(ranks.argmax(1), [1, 2, 2])


def test_a_budget_of_nothing_never_prefers_reward():
    """Of a thousand draws of candidates that all cost something, that of the lowest cost is first, whatever returns."""
    rng = np.random.default_rng(0)
    returns, costs = 1e6 * rng.normal(size=(1000, 5)), rng.uniform(0.01, 1, (1000, 5))
    ranks = within(jnp.asarray(returns), jnp.asarray(costs), jnp.zeros((1000, 1)))
    np.testing.assert_array_equal(ranks.argmax(1), costs.argmin(1))


def planned(budget, **values):
    algorithm = replace(SMALL, candidates=1, guidance_scale=1.0)
    state, spec = known(**values)
    rows = plan_of(algorithm, state, spec, jnp.zeros((3, 1)), carry(budget), jax.random.key(0))
    return np.asarray(rows[:, 1:].sum((1, 2)))


def test_guidance_is_towards_the_return_within_the_budget_and_away_from_the_cost_beyond_it():
    """Both values are the same sum: a budget says only to which of the two a plan is led."""
    rich, poor = planned(1e3), planned(0.0)
    free, costless = planned(0.0, returns=0.0, costs=0.0), planned(0.0, returns=1.0, costs=0.0)
    assert (rich > free + 0.01).all()
    assert (poor <= free).all() and (poor < rich).all()
    np.testing.assert_allclose(rich, costless, atol=1e-6)


def test_the_weight_is_of_plans_beyond_what_is_left():
    left, cost = jnp.array([[2.0], [0.0], [-1.0]]), jnp.array([[1.0, 2.0, 3.0, 9.0]] * 3)
    np.testing.assert_array_equal(SMALL.weight(cost, left), [[0, 0, 5, 5], [5] * 4, [5] * 4])
    soft = replace(SMALL, cost_weighting="soft", cost_weight=2.0).weight(cost, left)
    e = np.exp(1.0)
    np.testing.assert_allclose(soft, 2 * np.array([[0, 0, np.exp(0.5), e], [e] * 4, [e] * 4]), rtol=1e-6)


def test_what_is_left_is_in_the_values_unit():
    """8 are asked for and 1 + 2 spent in two of four steps, with a discount of 0.5: 5 over the two that are left count
    5 (1 + 1/2) / 2. Of discounted costs 1 + 2/2 are spent, and the 6 that are left count four times as much by now."""
    for discounted, expected in ((False, 3.75), (True, 24.0)):
        algorithm = replace(SMALL, discounted_budget=discounted)
        ledger = carry(8.0, 1, algorithm)[1]
        for cost in (1.0, 2.0):
            ledger = ledger.stepped().paid(jnp.array([cost]), 0.5 if discounted else 1.0)
        assert float(algorithm.left(SPEC, ledger)[0]) == pytest.approx(expected)


def test_acting_pays_the_last_step_s_cost_and_obeys_another_budget_on_the_way():
    state, spec = known()
    seen, key = jnp.zeros((3, 1)), jax.random.key(0)
    _, first = act(SMALL, state, spec, seen, carry(9.0), {"cost": jnp.full(3, 4.0)}, key)
    np.testing.assert_array_equal(first[1].spent, [0, 0, 0])
    lowered = SMALL.rewish(first, {"budget": np.float32([9.0, 2.0, 0.0])})
    _, (_, ledger) = act(SMALL, state, spec, seen, lowered, {"cost": jnp.array([4.0, 1.0, 1.0])}, key)
    np.testing.assert_array_equal(ledger.spent, [4, 1, 1])
    np.testing.assert_array_equal(ledger.left, [5, 1, -1])
    np.testing.assert_array_equal(ledger.step, [2, 2, 2])


def test_the_cost_value_learns_discounted_costs_with_what_a_terminal_costs():
    """Step k costs k: from the start 0 + 1/2 + 2/4 + 3/8; the last episode ends by a terminal, of 10 more."""
    view, spec = SMALL.prepare(data())
    found = spec.denormalise("costs_to_go", view.per_window["costs_to_go"][:, None])[:, 0]
    np.testing.assert_allclose(found[:4], [1.375, 2.75, 3.5, 3.0], atol=1e-5)
    np.testing.assert_allclose(found[8:], found[:4] + 10 * 0.5 ** np.array([3, 2, 1, 0]), atol=1e-5)


def test_the_budget_that_is_asked_for_is_what_episodes_cost_in_its_unit():
    for discounted, cost in ((False, 6.0), (True, 1.375)):
        (wish,) = replace(SMALL, discounted_budget=discounted).wishes(SPEC).values()
        assert (wish.default, wish.low, wish.high) == pytest.approx((cost, cost, cost))


def test_an_update_is_diffuser_s_and_moves_the_cost_value_beside_it():
    view, _ = SMALL.prepare(data())
    state, batch, key = known()[0], view.draw(jax.random.key(0), 8), jax.random.key(1)
    moved, metrics = jax.jit(SMALL.update)(state, batch, key)
    expected, _ = jax.jit(DIFFUSER.update)(plain(state), batch, key)
    for mine, other in zip(*(jax.tree.leaves(each) for each in (plain(moved), expected)), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-6)
    assert moved.cost.params.slope != state.cost.params.slope
    assert moved.cost_ema.slope == moved.cost.params.slope
    assert metrics["cost_loss"] != metrics["value_loss"]


def test_data_without_costs_and_budgets_below_0_are_refused():
    with pytest.raises(DataError, match="has no costs"):
        SMALL.prepare(data(costs=None))
    with pytest.raises(ReverieError, match="budget = -1 is less than nothing"):
        carry(-1.0)
    assert isinstance(carry(0.0)[1], Ledger)
