"""SDAC: the mean of the noise against closed forms, and a policy as wide as its temperature says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.policies import SDAC

T = 20


@pytest.mark.parametrize("step", [1, 6, 13, 18])
def test_the_mean_noise_of_a_gaussian_policy(step):
    """Q a bowl, so that actions are N(0.2, 0.02) before noise, far from the bounds; 4e-2 by 20,000 particles."""
    algorithm, variance, mean, t = SDAC(particles=20_000, temperature=0.5, diffusion_steps=T), 0.02, 0.2, step / T
    process = algorithm.process
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    rng = np.random.default_rng(step)
    x = alpha * (mean + variance**0.5 * rng.normal(size=(16, 1))) + sigma * rng.normal(size=(16, 1))
    gain = alpha * variance / (alpha**2 * variance + sigma**2)
    exact = (x - alpha * (mean + gain * (x - alpha * mean))) / sigma

    def q(actions):
        return -0.5 * jnp.square(actions[..., 0] - mean) / (2 * variance)

    found = algorithm.mean_noise(q, jnp.asarray(x), jnp.full(16, t), jax.random.key(0))
    np.testing.assert_allclose(found, exact, atol=4e-2)


def test_the_mean_noise_of_a_policy_that_is_even_within_the_bounds():
    """Q constant: eps is a truncated normal, whose mean is known."""
    from scipy.stats import truncnorm

    algorithm, t = SDAC(particles=20_000, diffusion_steps=T), 0.5
    alpha, sigma = float(algorithm.process.alpha(t)), float(algorithm.process.sigma(t))
    x = np.linspace(-1.5, 1.5, 7)[:, None]
    found = algorithm.mean_noise(lambda a: jnp.zeros(a.shape[:-1]), jnp.asarray(x), jnp.full(7, t), jax.random.key(0))
    np.testing.assert_allclose(found, truncnorm.mean((x - alpha) / sigma, (x + alpha) / sigma), atol=2e-2)
