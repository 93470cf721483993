"""How well a denoiser restores plans that were noised."""

import jax
import jax.numpy as jnp
import numpy as np

from reverie.diffusion import vp_cosine
from reverie.planning import restoration_gaps

PROCESS = vp_cosine(20, prediction="x0")
PLANS = jax.random.normal(jax.random.key(0), (3, 5, 8, 2))


def test_what_a_denoiser_makes_of_all_plans_is_their_distance_from_it():
    gaps = restoration_gaps(PROCESS, lambda x, t: jnp.full_like(x, 0.5), PLANS, 0.1, jax.random.key(1))
    np.testing.assert_allclose(gaps, jnp.square(PLANS - 0.5).mean((-2, -1)), rtol=1e-5)


def test_a_gaussian_s_exact_denoiser_restores_what_is_likely():
    """Data N(0, s^2) with the posterior's mean k x_t: the expected gap of x is (1 - k alpha)^2 x^2 + (k sigma)^2."""
    t, s = 0.25, 0.7
    alpha, sigma = PROCESS.level(t).alpha, PROCESS.level(t).sigma
    k = alpha * s**2 / (alpha**2 * s**2 + sigma**2)
    plans = jnp.stack([jnp.zeros((400, 20)), jnp.full((400, 20), 2.0)])
    gaps = restoration_gaps(PROCESS, lambda x, t: k * x, plans, t, jax.random.key(1))
    expected = (1 - k * alpha) ** 2 * jnp.array([0.0, 4.0]) + (k * sigma) ** 2
    np.testing.assert_allclose(gaps, expected, rtol=0.05)
    assert gaps[1] > 2 * gaps[0]
