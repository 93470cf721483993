"""The contrastive loss in closed form, and which states it is told to be high and low."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset
from reverie.planning.contrast import contrastive_loss as eager_loss
from reverie.planning.contrast import return_ranks, soft_threshold

contrastive_loss = jax.jit(eager_loss)


def test_with_one_state_each_the_loss_is_a_sigmoid_of_the_difference_of_distances():
    high, low = jnp.float32([[1.0, 0.0]]), jnp.float32([[-1.0, 2.0]])
    states = jnp.float32([[0.3, -0.2], [1.0, 0.0], [-1.0, 2.0]])
    found = contrastive_loss(states, high, low, 0.5)
    nearer = (np.square(states - low).sum(1) - np.square(states - high).sum(1)) / (2 * 0.5)
    np.testing.assert_allclose(found, np.log1p(np.exp(-nearer)), rtol=1e-5)
    gradient = jax.grad(lambda s: contrastive_loss(s, high, low, 0.5))(states[0])
    away = -2 * (high - low)[0] / (2 * 0.5) / (1 + np.exp(nearer[0]))
    np.testing.assert_allclose(gradient, away, rtol=1e-5)


def test_as_many_states_again_change_nothing():
    rng = np.random.default_rng(0)
    states, high, low = (jnp.float32(rng.normal(size=(size, 3))) for size in (5, 4, 2))
    once = contrastive_loss(states, high, low, 1.0)
    np.testing.assert_allclose(contrastive_loss(states, jnp.tile(high, (3, 1)), low, 1.0), once, rtol=1e-5)
    np.testing.assert_allclose(contrastive_loss(states, high, high, 1.0), np.full(5, np.log(2)), rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(-once) + jnp.exp(-contrastive_loss(states, low, high, 1.0)), 1, rtol=1e-5)


def test_ranks_are_of_returns_to_go_and_equals_share_theirs():
    """Returns to go with a discount of 1/2: 1.5, 1, 2, 0, 0."""
    data = Dataset.from_arrays(np.zeros((5, 1)), np.zeros((5, 1)), [1, 1, 2, 0, 0], None, [0, 1, 1, 0, 1])
    np.testing.assert_allclose(return_ranks(data, 0.5, 0.0), [0.7, 0.5, 0.9, 0.2, 0.2])


def test_a_rank_at_the_threshold_is_high_as_often_as_low():
    high, low = soft_threshold(jnp.float32([0.7, 0.75, 0.65]), 0.7, 0.05)
    assert float(high[0]) == float(low[0]) == pytest.approx(np.log(0.5))
    assert float(high[1]) == pytest.approx(float(low[2])) == pytest.approx(np.log(1 / (1 + np.exp(-1))), rel=1e-4)
