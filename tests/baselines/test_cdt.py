"""Constrained Decision Transformer: what it sees, and what falls while it acts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.baselines import CDT, decision_transformer
from reverie.data import Dataset, views
from reverie.errors import DataError, ReverieError
from reverie.training import Run

SMALL = CDT(context=4, width=8, depth=1, timesteps=5)


def data(**changed) -> Dataset:
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(15, 2)),
        "actions": rng.uniform(-1, 1, (15, 1)),
        "rewards": np.arange(15.0),
        "costs": np.arange(15) % 5,
        "timeouts": np.arange(15) % 5 == 4,
    }
    return Dataset.from_arrays(**arrays | changed)


@pytest.fixture(scope="module")
def learned():
    """A network of random numbers, and the specification."""
    spec = SMALL.prepare(data())[1]
    return jax.jit(SMALL.init)(jax.random.key(0), spec), spec


def test_an_action_sees_its_return_cost_and_observation_and_nothing_later(learned):
    """By perturbing one number at a time: the actions from there on change, and none before."""
    rng, net = np.random.default_rng(1), jax.jit(lambda *given: learned[0].actor.params(*given))
    shapes = {"returns": (4,), "costs": (4,), "observations": (4, 2), "actions": (4, 1)}
    given = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    def actions(x):
        return np.asarray(net([x["returns"], x["costs"]], x["observations"], x["actions"], jnp.arange(4)))[:, 0]

    before = actions(given)
    for name in shapes:
        for step in range(4):
            changed = {key: x.copy() for key, x in given.items()}
            changed[name][step] += 1
            first = step + (name == "actions")  # an action is seen from the next step on
            differs = actions(changed) != before
            assert not differs[:first].any(), name
            assert differs[first:].all(), name


def test_both_fall_by_what_the_last_step_brought(learned):
    state, spec = learned
    act = jax.jit(SMALL.act)
    carry = SMALL.reset(spec, 2, {"target_return": np.float32([10, 20]), "budget": np.float32([6, 3])})
    for step, cost in enumerate([5.0, 1.0, 2.0]):  # of which the first is of no step
        feedback = {"reward": jnp.full(2, 0.5), "cost": jnp.array([cost, 0.0])}
        _, carry = act(state, spec, jnp.zeros((2, 2)), carry, feedback, jax.random.key(0))
        assert int(carry.step[0]) == step + 1
    shown = {name: spec.denormalise(name, rows[..., None])[:, 1:, 0] for name, rows in carry.to_go.items()}
    np.testing.assert_allclose(shown["costs_to_go"], [[6, 5, 3], [3, 3, 3]], atol=1e-5)
    np.testing.assert_allclose(shown["returns_to_go"], [[10, 9.5, 9], [20, 19.5, 19]], atol=1e-5)
    lowered = SMALL.rewish(carry, {"budget": np.float32([4, 1])})
    np.testing.assert_array_equal(lowered.target["costs_to_go"], [4, 1])
    np.testing.assert_array_equal(lowered.target["returns_to_go"], [10, 20])


def test_costs_to_go_are_undiscounted_sums_of_the_data(learned):
    view, spec = SMALL.prepare(data())
    rows = spec.denormalise("costs_to_go", view.rows["costs_to_go"][:, None])[:5, 0]
    np.testing.assert_allclose(rows, [10, 10, 9, 7, 4], atol=1e-5)


def test_preparing_builds_windows_once_and_sums_costs_once_for_units_and_once_for_windows(monkeypatch):
    """Sums are a loop of the host's over all steps."""
    built, summed = [], []

    def count(module, name, into):
        own = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, **options: into.append(1) or own(*given, **options))

    count(decision_transformer, "windows", built)
    count(views, "_to_go", summed)
    spec = SMALL.prepare(data())[1]
    assert (len(built), len(summed)) == (1, 4)  # of which two are of rewards
    SMALL.prepare(data(), spec)
    assert (len(built), len(summed)) == (2, 6)


def test_where_nothing_is_asked_for_return_and_budget_are_of_the_cheapest_episodes():
    """Episodes that cost 10, 5 and 5 and return 10, 35 and 60."""
    costs = np.where(np.arange(15) < 5, 2.0, 1.0)
    wishes = SMALL.wishes(SMALL.prepare(data(costs=costs))[1])
    asked = {name: (wish.default, wish.low, wish.high) for name, wish in wishes.items()}
    assert asked == {"target_return": (60, 10, 60), "budget": (5, 5, 10)}
    dear = SMALL.prepare(data(costs=costs[::-1].copy()))[1]
    assert SMALL.wishes(dear)["target_return"].default == 35


def test_data_without_costs_and_budgets_below_0_are_refused(learned):
    with pytest.raises(DataError, match="has no costs"):
        SMALL.prepare(data(costs=None))
    with pytest.raises(ReverieError, match="budget = -1 is less than nothing"):
        SMALL.reset(learned[1], 1, {"target_return": np.float32([1]), "budget": np.float32([-1])})


def test_a_budget_without_end_is_refused(learned):
    """The network reads what is left of it, and would act by no number."""
    policy = Run(SMALL, learned[1], jax.tree.map(lambda x: x[None], learned[0]), 0, (0,)).policy()
    with pytest.raises(ReverieError, match="budget = inf is nothing that cdt can read; give a number, such as"):
        policy.reset(budget=np.inf)
    with pytest.raises(ReverieError, match="budget = inf is nothing"):
        policy.rewish(policy.reset(), budget=np.inf)
