"""Actors of one shot: densities in closed form, and what networks give."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

from reverie.rl import DeterministicActor, Normal, NormalActor, TanhNormal, TanhNormalActor

MEAN, STD = jnp.array([[0.3, -0.7], [0.0, 1.2]]), jnp.array([[0.5, 1.5], [0.1, 0.8]])


def test_normal_log_density_is_scipy_s():
    action = jnp.array([[0.0, 0.5], [0.2, -2.0]])
    expected = norm.logpdf(action, MEAN, STD).sum(-1)
    np.testing.assert_allclose(Normal(MEAN, STD).log_prob(action), expected, rtol=1e-5)


def test_samples_have_the_normal_s_moments():
    """40 000 samples: means within 4 standard errors, standard deviations within 2 %."""
    draws = Normal(MEAN, STD).sample(jax.random.key(0), (40_000,))
    assert draws.shape == (40_000, 2, 2)
    np.testing.assert_allclose(draws.mean(0), MEAN, atol=4 * 1.5 / 200)
    np.testing.assert_allclose(draws.std(0), STD, rtol=0.02)


def test_modes():
    np.testing.assert_array_equal(Normal(MEAN, STD).mode, MEAN)
    np.testing.assert_array_equal(TanhNormal(MEAN, STD).mode, jnp.tanh(MEAN))


def test_squashed_log_density_is_the_change_of_variables():
    """log N(artanh a) - sum log(1 - a²), in double precision, where a is not yet 1 in floating point: to 1e-3."""
    action, found = TanhNormal(MEAN, STD).sample_and_log_prob(jax.random.key(0), (1000,))
    assert action.shape == (1000, 2, 2)
    assert found.shape == (1000, 2)
    a, mean, std = np.float64(action), np.float64(MEAN), np.float64(STD)
    inside = (np.abs(a) < 0.999).all(-1)
    assert inside.mean() > 0.8
    a = np.where(np.abs(a) < 0.999, a, 0)
    z = (np.arctanh(a) - mean) / std
    expected = (-(z**2) / 2 - np.log(std * np.sqrt(2 * np.pi)) - np.log(1 - a**2)).sum(-1)
    np.testing.assert_allclose(np.asarray(found)[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("mean, std", [(0.0, 0.5), (0.8, 0.3), (-0.5, 1.0)])
def test_squashed_density_integrates_to_one(mean, std):
    """By the trapezoidal rule through the sampled actions themselves, within 0.1 %."""
    squashed = TanhNormal(jnp.array([mean]), jnp.array([std]))
    action, log_prob = squashed.sample_and_log_prob(jax.random.key(0), (20_000,))
    order = np.argsort(action[:, 0])
    density = np.exp(np.float64(log_prob))[order]
    widths = np.diff(np.float64(action[:, 0])[order])
    assert (widths * (density[1:] + density[:-1]) / 2).sum() == pytest.approx(1, abs=1e-3)


def test_squashed_density_is_finite_where_the_action_is_one_in_floating_point():
    action, log_prob = TanhNormal(jnp.array([30.0]), jnp.array([1.0])).sample_and_log_prob(jax.random.key(0))
    assert action[0] == 1
    assert np.isfinite(log_prob)
    assert log_prob > 40  # 1 - tanh²(30) is about 4 exp(-60)


def scaled(actor, factor):
    """The actor with a last layer so many times as large."""
    return eqx.tree_at(lambda a: a.net.layers[-1].weight, actor, factor * actor.net.layers[-1].weight)


def test_deterministic_actions_are_bounded():
    observations = jax.random.normal(jax.random.key(1), (3, 5, 4))
    action = scaled(DeterministicActor(jax.random.key(0), 4, 2, hidden=(8,)), 1e3)(observations)
    assert action.shape == (3, 5, 2)
    assert jnp.abs(action).max() <= 1


def test_normal_actor_s_mean_is_bounded_and_its_standard_deviation_is_one_for_all_states():
    observations = jax.random.normal(jax.random.key(1), (3, 5, 4))
    actor = scaled(NormalActor(jax.random.key(0), 4, 2, hidden=(8,)), 1e3)
    actor = eqx.tree_at(lambda a: a.log_std, actor, jnp.array([-1.0, 100.0]))
    normal = actor(observations)
    assert normal.mean.shape == normal.std.shape == (3, 5, 2)
    assert jnp.abs(normal.mean).max() <= 1
    np.testing.assert_allclose(normal.std, np.broadcast_to(np.exp([-1, 2]), (3, 5, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    "make, lowest",
    [
        (lambda key: NormalActor(key, 4, 2, per_state=True, hidden=(8,)), -5),
        (lambda key: TanhNormalActor(key, 4, 2, hidden=(8,)), -20),
    ],
)
def test_standard_deviations_of_the_state_differ_and_keep_to_their_range(make, lowest):
    observations = jax.random.normal(jax.random.key(1), (100, 4))
    assert np.ptp(make(jax.random.key(0))(observations).std[:, 0]) > 0
    wild = scaled(make(jax.random.key(0)), 1e4)(observations).std
    np.testing.assert_allclose([wild.min(), wild.max()], np.exp([lowest, 2.0]), rtol=1e-4)


def test_only_the_squashed_actor_s_own_mean_is_unbounded():
    observations = jax.random.normal(jax.random.key(1), (100, 4))
    wild = scaled(TanhNormalActor(jax.random.key(0), 4, 2, hidden=(8,)), 1e3)(observations)
    assert jnp.abs(wild.mean).max() > 1
    assert jnp.abs(wild.mode).max() <= 1
