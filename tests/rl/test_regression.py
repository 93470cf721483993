"""Advantage-weighted regression: the weights, and the likelihood that they weigh, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from reverie.rl import Normal, advantage_weighted_loss
from reverie.rl.regression import exponential_weights, weighted_log_likelihood

MEAN, STD = jnp.array([[0.3, -0.7], [0.0, 1.2], [1.0, 1.0]]), jnp.array([[0.5, 1.5], [0.1, 0.8], [1.0, 2.0]])
ACTIONS = jnp.array([[0.0, 0.5], [0.2, -2.0], [1.0, 0.0]])


def test_weights_are_the_exponential_of_the_advantage_up_to_the_largest():
    advantage = jnp.array([-jnp.inf, -2.0, 0.0, 1.0, 4.0, 5.0, 1e6])
    expected = [0, np.exp(-2), 1, np.e, np.exp(4), 100, 100]
    np.testing.assert_allclose(exponential_weights(advantage, 100.0), expected, rtol=1e-6)


def test_the_loss_is_minus_the_weighted_mean_of_the_log_density():
    weights = jnp.array([2.0, 0.0, 0.5])
    density = norm.logpdf(ACTIONS, MEAN, STD).sum(-1)
    expected = -(2.0 * density[0] + 0.5 * density[2]) / 3
    np.testing.assert_allclose(weighted_log_likelihood(Normal(MEAN, STD), ACTIONS, weights), expected, rtol=1e-5)


def test_equal_weights_are_behaviour_cloning_and_a_weight_of_zero_teaches_nothing():
    def slope(weights):
        return jax.grad(lambda mean: weighted_log_likelihood(Normal(mean, STD), ACTIONS, weights))(MEAN)

    np.testing.assert_allclose(slope(jnp.ones(3)), (MEAN - ACTIONS) / STD**2 / 3, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(slope(jnp.array([1.0, 0.0, 1.0]))[1], 0)


def test_the_loss_is_both_together_and_no_gradient_leads_through_the_weights():
    advantage = jnp.array([-1.0, 0.0, 9.0])

    def whole(scale):
        return advantage_weighted_loss(Normal(MEAN, STD), ACTIONS, scale * advantage, 100.0)

    weights = jnp.array([np.exp(-1), 1.0, 100.0])
    np.testing.assert_allclose(whole(1.0), weighted_log_likelihood(Normal(MEAN, STD), ACTIONS, weights), rtol=1e-6)
    assert jax.grad(whole)(1.0) == 0
