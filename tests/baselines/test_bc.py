"""Behaviour cloning: the expert back from its data, and the data's standard deviation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import acted, flat, start, train, update
from reverie.baselines import BC
from reverie.data import Dataset

LINEAR = np.array([[0.3, -0.2], [0.1, 0.4], [-0.3, 0.0]])
NOISE = 0.2


@pytest.fixture(scope="module")
def expert():
    """An expert that is linear in three numbers, with a standard deviation of 0.2; bounds are -3 and 1, and nothing is
    known of rewards and terminals. With the trained state."""
    rng = np.random.default_rng(0)
    observations = rng.uniform(-1, 1, (3000, 3))
    actions = observations @ LINEAR - 0.5 + NOISE * rng.normal(size=(3000, 2))
    data = Dataset.from_arrays(observations, actions, timeouts=np.arange(3000) % 50 == 49, action_low=-3, action_high=1)
    algorithm = BC(hidden=(32, 32), learning_rate=3e-3, decay_updates=1000)
    return algorithm, *train(algorithm, data, steps=1000)


def test_a_linear_expert_is_recovered(expert):
    """Its mean to 0.08 in 99 % of fresh states, whose actions span 1.4; 0.15 everywhere."""
    algorithm, state, spec = expert
    observations = np.random.default_rng(1).uniform(-1, 1, (1000, 3)).astype(np.float32)
    error = np.abs(acted(algorithm, state, spec, observations, jax.random.key(0)) - (observations @ LINEAR - 0.5))
    assert np.quantile(error, 0.99) < 0.08
    assert error.max() < 0.15


def test_a_stochastic_clone_has_the_data_s_standard_deviation(expert):
    """4000 draws in one state: their standard deviation to 15 %, in the environment's units."""
    algorithm, state, spec = expert
    drawing = BC(hidden=(32, 32), stochastic=True)
    actions = acted(drawing, state, spec, jnp.zeros((4000, 3)), jax.random.key(0))
    np.testing.assert_allclose(actions.std(0), NOISE, rtol=0.15)
    mean = acted(algorithm, state, spec, jnp.zeros((4000, 3)), jax.random.key(0))
    np.testing.assert_array_equal(mean, mean[:1].repeat(4000, 0))
    np.testing.assert_allclose(actions.mean(0), mean[0], atol=0.015)


def test_the_loss_is_the_negative_log_likelihood():
    data = Dataset.from_arrays(np.zeros((4, 1)), np.linspace(-1, 1, 4)[:, None], timeouts=[0, 0, 0, 1])
    algorithm = BC(hidden=(8,))
    state, batch, _ = start(algorithm, data)
    after, metrics = update(algorithm, state, batch, jax.random.key(0))
    normal = state.actor.params(batch["observations"])
    expected = -jax.scipy.stats.norm.logpdf(batch["actions"], normal.mean, normal.std).sum(-1).mean()
    assert float(metrics["negative_log_likelihood"]) == pytest.approx(float(expected), rel=1e-5)
    assert np.abs(flat(after.actor.params) - flat(state.actor.params)).max() == pytest.approx(3e-4, rel=1e-2)
