"""DPMD: the particles' weights, the temperature that keeps their divergence, and the old policy that is refreshed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset
from reverie.policies import DPMD
from reverie.policies.dpmd import weights

RNG = np.random.default_rng(0)
DATA = Dataset.from_arrays(RNG.normal(size=(64, 1)), RNG.uniform(-1, 1, (64, 2)), RNG.normal(size=64), np.ones(64))
SMALL = DPMD(hidden=(8,), critic_hidden=(8,), diffusion_steps=3, batch_size=8, particles=8, refresh=2)


def test_weights_tilt_a_gaussian():
    """Of N(0, 1) by exp(q a / temperature): N(q / temperature, 1), whose divergence is half the square of its mean."""
    particles = jnp.asarray(RNG.normal(size=(1, 400_000)), jnp.float32)
    weight, kl = weights(0.3 * particles, 0.5)
    np.testing.assert_allclose(weight.sum(), 1, rtol=1e-4)
    mean = (weight * particles).sum()
    np.testing.assert_allclose(mean, 0.6, atol=0.01)
    np.testing.assert_allclose((weight * jnp.square(particles - mean)).sum(), 1, atol=0.02)
    np.testing.assert_allclose(kl, 0.18, atol=0.005)


def test_weights_without_and_with_all_of_q():
    even, none = weights(jnp.arange(8.0)[None], 1e9)
    np.testing.assert_allclose(even, 1 / 8, rtol=1e-5)
    np.testing.assert_allclose(none, 0, atol=1e-6)
    first, most = weights(jnp.arange(8.0)[None], 1e-3)
    np.testing.assert_allclose(first[0], np.eye(8)[7], atol=1e-6)
    np.testing.assert_allclose(most, np.log(8), rtol=1e-5)


@pytest.mark.parametrize("target_kl, rises", [(0.0, True), (3.0, False)])
def test_the_temperature_follows_the_divergence_and_the_old_policy_is_refreshed_in_time(target_kl, rises):
    algorithm = replace(SMALL, target_kl=target_kl)
    view, spec = algorithm.prepare(DATA)
    state = algorithm.init(jax.random.key(0), spec)
    update = jax.jit(algorithm.update)
    first, _ = update(state, view.draw(jax.random.key(1), 8), jax.random.key(2))
    second, metrics = update(first, view.draw(jax.random.key(3), 8), jax.random.key(4))
    assert (second.log_temperature.params > 0) == rises
    assert 0 < metrics["kl"] < np.log(8)

    def same(a, b):
        return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    assert same(first.old, state.old) and not same(first.old, first.actor.params)
    assert same(second.old, second.actor.params)
