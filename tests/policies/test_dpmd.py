"""DPMD: the particles' weights, the temperature that keeps their divergence, and the old policy that is refreshed."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset
from reverie.errors import ReverieError
from reverie.policies import DPMD
from reverie.policies.dpmd import weights

RNG = np.random.default_rng(0)
DATA = Dataset.from_arrays(RNG.normal(size=(64, 1)), RNG.uniform(-1, 1, (64, 2)), RNG.normal(size=64), np.ones(64))
SMALL = DPMD(hidden=(8,), critic_hidden=(8,), diffusion_steps=3, batch_size=8, particles=8, refresh=2, target_kl=1.0)


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


@pytest.mark.parametrize("target_kl, rises", [(0.0, True), (2.0, False)])
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


@pytest.mark.parametrize("noise", [0.1, 0.0])
def test_noise_on_the_particles_is_what_keeps_the_policy_wide(noise):
    """Each policy a Gaussian that fits the weighted particles of the one before, of a bowl Q, at the temperature that
    keeps a divergence of 0.16: of the particles' variance rho is left, so that the policy settles at rho / (1 - rho) of
    the noise's. 6 % by 40,000 particles. Without noise it is a point."""
    algorithm, q, rho = replace(SMALL, particle_noise=noise), 40, 0.4
    # The divergence of N(0, rho v) from N(0, v) sets the temperature: 1 / (rho v) = 1 / v + 2 q / temperature.
    variance = 0.04
    for step in range(12):
        draw_key, noise_key = jax.random.split(jax.random.key(step))
        drawn = jnp.sqrt(variance) * jax.random.normal(draw_key, (1, 40_000, 1))
        particles = algorithm.noisy(drawn, noise_key)[..., 0]
        temperature = 2 * q * (variance + noise**2) * rho / (1 - rho)
        weight, kl = weights(-q * jnp.square(particles), temperature)
        np.testing.assert_allclose(kl, (rho - 1 - np.log(rho)) / 2, rtol=0.05)
        variance = float((weight * jnp.square(particles)).sum())
    np.testing.assert_allclose(variance, noise**2 * rho / (1 - rho), rtol=0.06, atol=1e-6)


def test_what_is_weighed_and_imitated_is_noisy_and_within_the_bounds(monkeypatch):
    """Of an old policy that does one thing alone, at a bound in the second entry."""
    algorithm = replace(SMALL, particles=2000, particle_noise=0.2)
    view, spec = algorithm.prepare(DATA)
    state, batch, imitated = algorithm.init(jax.random.key(0), spec), view.draw(jax.random.key(1), 4), {}
    still = jnp.broadcast_to(jnp.array([0.0, 1.0]), (4, 2000, 2))
    monkeypatch.setattr(DPMD, "sample_candidates", lambda *_: still)
    monkeypatch.setattr(DPMD, "learn_actor", lambda self, state, batch, key: (imitated.update(batch), (state, 0.0))[1])
    after, metrics = algorithm.update(state, batch, jax.random.key(2))
    particles = imitated["particles"]
    np.testing.assert_allclose(particles[..., 0].std(), 0.2, rtol=0.02)
    assert particles.max() == 1 and (particles[..., 1] == 1).mean() == pytest.approx(0.5, abs=0.02)
    by_hand, kl = weights(algorithm.values(after, batch["observations"], particles), 1.0)
    np.testing.assert_allclose(imitated["weights"], by_hand, rtol=1e-4)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-4)


def test_a_divergence_that_so_few_particles_cannot_have_is_refused():
    with pytest.raises(ReverieError, match=r"target_kl = 2.0 cannot be reached with particles = 4.* less than 1.39"):
        DPMD(particles=4)
