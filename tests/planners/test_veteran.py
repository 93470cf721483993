"""Diffusion Veteran: the choice among plans where the value is known, and a problem where every order statistic is."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.errors import ReverieError
from reverie.learning import Optimised
from reverie.planners import DiffusionVeteran
from reverie.planning import remember

SMALL = DiffusionVeteran(
    horizon=3,
    stride=2,
    width=32,
    heads=2,
    critic_depth=1,
    inverse_hidden=(32, 32),
    learning_rate=2e-3,
    decay_updates=1000,
    ema_start=500,
    ema_decay=0.98,
    termination_penalty=0.0,
)
LENGTH = 8
act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)
plan_of = jax.jit(lambda algorithm, *arguments: algorithm.plan(*arguments), static_argnums=0)


def drifts(episodes=600, seed=0) -> Dataset:
    """From the origin every episode drifts by 0.1 d a step: d, uniform in [-1, 1], is its action at every step, and its
    reward. Observations are the position, and whether it is the first."""
    d = np.random.default_rng(seed).uniform(-1, 1, (episodes, 1))
    steps = np.arange(LENGTH)
    observations = np.stack([0.1 * d * steps, np.broadcast_to(steps == 0, (episodes, LENGTH))], -1)
    actions = np.broadcast_to(d, (episodes, LENGTH)).ravel()
    return Dataset.from_arrays(
        observations.reshape(-1, 2),
        actions[:, None],
        actions,
        timeouts=np.tile(steps == LENGTH - 1, episodes),
        action_low=-1,
        action_high=1,
    )


START = jnp.tile(jnp.array([0.0, 1.0]), (256, 1))
FEW = START[:64]


class LastPosition(eqx.Module):
    """A value that is known: where a plan ends."""

    def __call__(self, x):
        return x[..., -1, 0]


@pytest.fixture(scope="module")
def fresh():
    """An untrained state, whose denoiser finds no noise in anything, with the known value; and the specification."""
    spec = SMALL.prepare(drifts(20))[1]
    state = jax.jit(SMALL.init)(jax.random.key(0), spec)
    return eqx.tree_at(lambda each: each.critic, state, Optimised(LastPosition(), ())), spec


@jax.jit
def action_of(inverse, here, there, key, temperature):
    return inverse.sample(here, there, key, temperature=temperature)


@jax.jit
def drawn(state, spec, values):
    """Unguided plans like `values`, of the key that the planner is given."""
    mask, denoiser = SMALL.inpaint_mask(3, SMALL.blocks(spec)), SMALL.process.denoiser(state.denoiser_ema)
    return SMALL.denoise(denoiser, jax.random.key(1), values, mask)


def test_the_best_of_n_is_the_best_by_the_value_and_better_with_n(fresh):
    """Without a denoiser plans are what noise was begun with, over alpha: the best of N is N's order statistic."""
    state, spec = fresh
    for n, expected in {1: 0.0, 16: 1.766}.items():
        best = plan_of(replace(SMALL, candidates=n), state, spec, FEW, jax.random.key(1))
        start = SMALL.observed(spec, FEW)
        plans = drawn(state, spec, jnp.repeat(start[:, None], n, 1))
        np.testing.assert_allclose(best[:, -1, 0], plans[..., -1, 0].max(1), rtol=1e-4)
        np.testing.assert_array_equal(best[:, 0], start[:, 0])
        units = best[:, -1, 0] * SMALL.process.alpha(1.0)
        assert float(units.mean()) == pytest.approx(expected, abs=0.4)
        assert 0.3 < float(units.std()) < 1.2


def test_one_candidate_is_the_plan_as_it_is_drawn(fresh):
    state, spec = fresh
    alone = drawn(state, spec, SMALL.observed(spec, FEW))
    plan = plan_of(replace(SMALL, candidates=1), state, spec, FEW, jax.random.key(1))
    np.testing.assert_allclose(plan, alone, rtol=1e-4)


def test_the_action_leads_to_the_next_row_of_the_plan(fresh):
    """And to no later one: as the inverse dynamics has it of the plan's first two rows."""
    state, spec = fresh
    algorithm, key = replace(SMALL, candidates=1, action_temperature=0.0), jax.random.key(1)
    found = act(algorithm, state, spec, FEW, (), {}, key)[0]
    plan_key, action_key = jax.random.split(key)
    rows = plan_of(algorithm, state, spec, FEW, plan_key)
    expected = [action_of(state.inverse_ema, rows[:, 0], rows[:, row], action_key, 0.0) for row in (1, 2)]
    np.testing.assert_allclose(found, expected[0], atol=1e-4)
    assert np.abs(found - expected[1]).max() > 1e-2


def test_plans_may_begin_at_stored_ones(fresh):
    """Without a denoiser a plan stays where it began, but for the noise of one level in 20: 0.17 over alpha."""
    state, spec = fresh
    stored = remember(spec, np.full((1, 3, 2), 5.0), capacity=1)
    algorithm = replace(SMALL, candidates=1, retrieval_steps=1)
    found = plan_of(algorithm, state, stored, FEW, jax.random.key(1))[:, 1:]
    t = 1 / SMALL.diffusion_steps
    assert float(found.mean()) == pytest.approx(5.0, abs=0.05)
    assert float(found.std()) == pytest.approx(float(SMALL.process.sigma(t) / SMALL.process.alpha(t)), rel=0.15)


def test_windows_of_low_returns_weigh_nothing_where_returns_weigh_much():
    """At a weight of 100 the lower half's states have no part in the denoiser's loss; those of the best have."""
    algorithm = replace(SMALL, depth=1, inverse_hidden=(8,), return_weight=100.0)
    view, spec = algorithm.prepare(drifts(20))
    state, batch = woken(jax.jit(algorithm.init)(jax.random.key(0), spec)), view.draw(jax.random.key(1), 32)
    update = jax.jit(algorithm.update)

    def loss(moved):
        states = batch["observations"] + jnp.where(moved, 5.0, 0.0)[:, None, None]
        return float(update(state, batch | {"observations": states}, jax.random.key(2))[1]["diffusion_loss"])

    nobody = loss(jnp.zeros(32, bool))
    assert loss(batch["returns"] < 0) == pytest.approx(nobody, rel=1e-6)
    assert loss(batch["returns"] == batch["returns"].max()) != pytest.approx(nobody, rel=1e-3)


def test_the_critic_learns_for_as_long_as_asked():
    algorithm = replace(SMALL, depth=1, inverse_hidden=(8,), critic_updates=1)
    view, spec = algorithm.prepare(drifts(20))
    batch, update = view.draw(jax.random.key(1), 32), jax.jit(algorithm.update)
    begun = jax.jit(algorithm.init)(jax.random.key(0), spec)
    first, learned = update(begun, batch, jax.random.key(2))
    second, kept = update(first, batch, jax.random.key(3))
    assert learned["critic_loss"] > 0 == kept["critic_loss"]
    weights = [jax.tree.leaves(state.critic.params)[0] for state in (begun, first, second)]
    assert not np.array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[1], weights[2])


def woken(state):
    """With a denoiser that says something."""
    weight = jax.random.normal(jax.random.key(3), state.denoiser.params.out.weight.shape)
    return eqx.tree_at(lambda each: each.denoiser.params.out.weight, state, weight)


@pytest.fixture(scope="module")
def drifting(optimised):
    with optimised():
        return reverie.fit(SMALL, drifts(), steps=1000, progress=False)


def first_actions(run, **changes):
    algorithm = replace(run.algorithm, **changes)
    return np.asarray(act(algorithm, run.state(0), run.spec, START, (), {}, jax.random.key(0))[0])[:, 0]


@pytest.mark.parametrize("n", [1, 16])
def test_the_best_of_n_drifts_as_the_best_of_n_episodes(drifting, n):
    """Of n uniform drifts the largest is (n - 1) / (n + 1) on average. One plan keeps the data's proportions. (Trained
    for seconds, the ends of the range are thin by a tenth.)"""
    actions = first_actions(drifting, candidates=n)
    assert actions.mean() == pytest.approx((n - 1) / (n + 1), abs=0.2)
    assert actions.std() == pytest.approx({1: 0.577, 16: 0.105}[n], abs=0.2)


def test_the_inverse_dynamics_goes_a_stride_ahead(drifting):
    """What drifts by 0.2 d in two steps does d. Shown the row of the next step, it would do half of that."""
    d = jnp.linspace(-0.9, 0.9, 64)
    for ahead, expected in {2: d, 1: d / 2}.items():
        there = jnp.stack([0.1 * d * ahead, jnp.zeros(64)], -1)
        pair = [drifting.spec.normalise("observations", x) for x in (START[:64], there)]
        found = action_of(drifting.state(0).inverse_ema, *pair, jax.random.key(0), 0.5)
        assert np.abs(found[:, 0] - expected).mean() < 0.1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"horizon": 1}, "horizon = 1, but a plan needs a row to go to"),
        ({"warm_start_steps": 2}, "warm_start_steps = 2 has no last plan"),
        ({"candidates": 0}, "candidates = 0"),
    ],
)
def test_impossible_fields_are_refused(change, sentence):
    with pytest.raises(ReverieError, match=sentence):
        replace(SMALL, **change)
