"""Diffuser for rewards on a problem small enough to learn in seconds, and what holds whatever it has learned."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carries import mixed_and_in_lockstep

import reverie
from reverie.data import Dataset
from reverie.errors import ReverieError
from reverie.planners import Diffuser

SMALL = {"horizon": 8, "width": 32, "multipliers": (1,), "diffusion_steps": 10}

act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)
plan_of = jax.jit(lambda algorithm, *arguments: algorithm.plan(*arguments), static_argnums=0)


def two_ways(episodes=300, length=12, seed=0, ended=False) -> Dataset:
    """From the origin half of the episodes drift left and half right, by 0.1 a step; only the right is rewarded. They
    are cut, or `ended` by a terminal."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-1.0, 1.0], (episodes, 1, 1))
    actions = side + 0.05 * rng.normal(size=(episodes, length, 1))
    positions = np.cumsum(0.1 * actions, 1) - 0.1 * actions
    timeouts = np.zeros((episodes, length), bool)
    timeouts[:, -1] = True
    rewards = np.broadcast_to(side[..., 0] > 0, (episodes, length)).astype(np.float32)
    return Dataset.from_arrays(
        positions.reshape(-1, 1),
        actions.reshape(-1, 1),
        rewards.reshape(-1),
        **{"terminals" if ended else "timeouts": timeouts.reshape(-1)},
        action_low=-1.5,
        action_high=1.5,
    )


@pytest.mark.parametrize("ended, windows, inside", [(False, 5, 1.0), (True, 12, (5 + 28 / 8) / 12)])
def test_only_what_follows_a_terminal_is_padded(ended, windows, inside):
    """Of twelve steps the first five begin a window of eight; seven more have 7 to 1 rows in the episode."""
    view, _ = Diffuser(**SMALL).prepare(two_ways(3, ended=ended))
    assert len(view) == 3 * windows
    assert float(view.take(jnp.arange(len(view)))["mask"].mean()) == pytest.approx(inside)


@pytest.fixture(scope="module")
def sided():
    algorithm = Diffuser(
        **SMALL, termination_penalty=0.0, ema_start=200, ema_decay=0.9, learning_rate=1e-3, candidates=1
    )
    return reverie.fit(algorithm, two_ways(), steps=500, progress=False)


def first_actions(run, n=128, key=0, **changes):
    algorithm = replace(run.algorithm, **changes)
    carry = algorithm.reset(run.spec, n, {})
    return np.asarray(act(algorithm, run.state(0), run.spec, jnp.zeros((n, 1)), carry, {}, jax.random.key(key))[0])


def test_unguided_plans_keep_both_ways_and_guided_ones_take_the_rewarded(sided):
    """Both modes 50 % within 15 points and nothing between them; with the value's gradient over 90 % go right."""
    free = first_actions(sided, guidance_scale=0.0)
    assert abs((free > 0).mean() - 0.5) < 0.15
    assert (np.abs(free) > 0.7).mean() > 0.95
    guided = first_actions(sided, guidance_scale=1.0)
    assert (guided > 0.7).mean() > 0.9


def test_candidates_are_ranked_by_value(sided):
    """Of 16 unguided plans the best by value is almost surely a right one; of 1, in half the cases."""
    assert (first_actions(sided, guidance_scale=0.0, candidates=16) > 0.7).mean() > 0.97


def test_zero_scale_is_unguided(sided):
    algorithm, n = sided.algorithm, 32
    plain = first_actions(sided, n, guidance_scale=0.0)
    values = jnp.zeros((n, 1, 8, 2)).at[..., 1:].set(sided.spec.normalise("observations", jnp.zeros((1, 1))))
    mask = algorithm.inpaint_mask(8, algorithm.blocks(sided.spec))
    plans = algorithm.denoise(algorithm.process.denoiser(sided.state(0).denoiser_ema), jax.random.key(0), values, mask)
    np.testing.assert_allclose(plain, sided.spec.denormalise("actions", plans[:, 0, 0, :1]), atol=1e-4)


def test_first_observation_is_held_exactly_and_the_next_is_near(sided):
    algorithm = sided.algorithm
    observation = jnp.linspace(-0.5, 0.5, 16)[:, None]
    carry = algorithm.reset(sided.spec, 16, {})
    plan = plan_of(algorithm, sided.state(0), sided.spec, observation, carry, jax.random.key(0))
    states = plan[..., 1:]
    np.testing.assert_array_equal(states[:, 0], sided.spec.normalise("observations", observation))
    moved = np.diff(sided.spec.denormalise("observations", states)[:, :2, 0], axis=1)
    assert np.abs(moved).max() < 0.25


def test_value_learns_the_return_in_the_data_s_units(sided):
    """Rewards are 1 a step on the right for 12 steps, discounted by 0.997; 0 on the left. Clean windows, 15 %."""
    view, spec = sided.algorithm.prepare(two_ways(seed=1))
    batch = view.draw(jax.random.key(0), 256)
    x = jnp.concatenate([batch["actions"], batch["observations"]], -1)
    values = spec.denormalise("returns", sided.state(0).value_ema(x, jnp.float32(0))[:, None])[:, 0]
    returns = spec.denormalise("returns", batch["returns"][:, None])[:, 0]
    assert float(returns.max()) == pytest.approx((1 - 0.997**12) / 0.003, rel=1e-4)
    assert float(returns.min()) == pytest.approx(0, abs=1e-4)
    assert np.corrcoef(values, returns)[0, 1] > 0.97


class Turned(Diffuser):
    """Observations before actions."""

    parts = ("observations", "actions")


@pytest.mark.parametrize("kind", [Diffuser, Turned])
def test_blocks_may_lie_in_any_order(kind):
    """Of a network that answers 0 the action is the data's mean, whatever is observed; and that is held."""
    algorithm = kind(**SMALL | {"diffusion_steps": 2}, candidates=2, guidance_steps=0)
    data = two_ways(4)
    spec = algorithm.prepare(data)[1]
    state = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(algorithm.init, jax.random.key(0), spec))
    seen, carry = jnp.full((3, 1), 0.4), algorithm.reset(spec, 3, {})

    @jax.jit
    def acted_and_planned(key):
        action, _ = algorithm.act(state, spec, seen, carry, {}, key)
        return action, algorithm.plan(state, spec, seen, carry, key)

    action, plan = acted_and_planned(jax.random.key(0))
    np.testing.assert_allclose(action, np.full((3, 1), data.actions.mean()), atol=1e-5)
    place = kind.parts.index("observations")
    np.testing.assert_array_equal(plan[:, 0, place], spec.normalise("observations", seen)[:, 0])


def test_warm_start_stays_on_the_way_that_was_begun(sided):
    """Noised by 3 of 10 levels, a plan keeps its side; planned anew, half of them change it."""

    def second_side(warm_start_steps):
        algorithm = replace(sided.algorithm, guidance_scale=0.0, warm_start_steps=warm_start_steps)
        fixed = algorithm, sided.state(0), sided.spec
        first, carry = act(*fixed, jnp.zeros((128, 1)), algorithm.reset(sided.spec, 128, {}), {}, jax.random.key(0))
        second, _ = act(*fixed, jnp.zeros((128, 1)), carry, {}, jax.random.key(1))
        return (np.sign(first) == np.sign(second)).mean()

    assert second_side(3) > 0.95
    assert abs(second_side(0) - 0.5) < 0.2


def test_warm_start_shifts_the_plan_by_the_step_that_was_taken(sided):
    algorithm = sided.algorithm
    observation = jnp.zeros((4, 1))
    start = algorithm.reset(sided.spec, 4, {})
    plan = plan_of(algorithm, sided.state(0), sided.spec, observation, start, jax.random.key(0))
    _, (last, step) = act(algorithm, sided.state(0), sided.spec, observation, start, {}, jax.random.key(0))
    np.testing.assert_allclose(last, jnp.concatenate([plan[:, 1:], plan[:, -1:]], 1), atol=1e-5)
    np.testing.assert_array_equal(step, [1] * 4)


@pytest.mark.parametrize("warm_start_steps", [0, 2])
def test_environments_at_different_steps_act_as_in_lockstep(warm_start_steps):
    """The first of four has no plan yet, and the others theirs from other steps, of which a warm start keeps much."""
    algorithm = Diffuser(
        horizon=8,
        width=32,
        multipliers=(1,),
        diffusion_steps=4,
        candidates=2,
        guidance_steps=1,
        warm_start_steps=warm_start_steps,
    )
    spec = algorithm.prepare(two_ways(4))[1]
    state = jax.jit(algorithm.init)(jax.random.key(0), spec)

    def observe(step):
        return jnp.arange(4.0)[:, None] / 10 + 0.1 * step

    mixed, lockstep, _ = mixed_and_in_lockstep(algorithm, state, spec, observe, steps=(0, 1, 2, 5))
    for found, expected in zip(jax.tree.leaves(mixed), jax.tree.leaves(lockstep), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(mixed[1].step, [1, 2, 3, 6])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"guidance_scale": 0.0}, {"guidance_steps": 0}])
def test_a_gradient_that_moves_nothing_is_not_taken(settings):
    def climbed(x, t):
        raise AssertionError("asked for its gradient")

    assert Diffuser(**SMALL | settings).guide(climbed, lambda x, t: x) is None


def test_value_stops_training_when_asked():
    algorithm = Diffuser(**SMALL, value_updates=3)
    view, spec = algorithm.prepare(two_ways(20))
    state = algorithm.init(jax.random.key(0), spec)
    update = jax.jit(algorithm.update)
    seen = []
    for i in range(5):
        batch = view.draw(jax.random.key(i), 8)
        state, metrics = update(state, batch, jax.random.key(i))
        seen.append((metrics["value_loss"], state.value.params.out.weight.copy()))
    assert seen[2][0] > 0
    assert seen[3][0] == seen[4][0] == 0
    np.testing.assert_array_equal(seen[2][1], seen[4][1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"solver": "ddmp"}, "solver 'ddmp' is unknown"),
        ({"warm_start_steps": 21}, "warm_start_steps = 21"),
        ({"nfe": 30}, "nfe = 30"),
        ({"horizon": 30}, "horizon 30"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"candidates": "abc"}, "candidates = 'abc'"),
        ({"solver": "heun"}, "'heun' makes two evaluations"),
        ({"warm_start_steps": 2, "stride": 2}, "stride = 2"),
    ],
)
def test_impossible_fields_are_refused_before_training(change, sentence):
    with pytest.raises(ReverieError, match=sentence):
        reverie.fit(Diffuser(**change), two_ways(20, 40), steps=1, progress=False)
