"""Inverse dynamics: the action of a linear system is found, and what lies beyond an episode's end does not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.learning import Optimised, optimiser
from reverie.planning import InverseDynamics


def walks(key, n, horizon=5):
    """Windows of s' = s + a: observations `[n, H, 2]` and actions `[n, H, 2]`."""
    actions = jax.random.uniform(key, (n, horizon, 2), minval=-1, maxval=1)
    return jnp.cumsum(actions, 1) - actions, actions


def test_the_action_of_a_linear_system_is_the_difference_of_its_states():
    """A network without hidden layers can say s' - s exactly: to 1e-3 after 800 updates."""
    by = optimiser(3e-2, schedule="cosine", steps=800)

    def update(learner, key):
        observations, actions = walks(key, 64)
        return learner.minimise(lambda net: net.loss(observations, actions), by)

    net = InverseDynamics(jax.random.key(0), 2, 2, hidden=())
    keys = jax.random.split(jax.random.key(1), 800)
    learned, losses = jax.jit(lambda keys: jax.lax.scan(update, Optimised.create(net, by), keys))(keys)
    observations, actions = walks(jax.random.key(2), 100)
    found = learned.params(observations[:, :-1], observations[:, 1:])
    np.testing.assert_allclose(found, actions[:, :-1], atol=1e-3)
    assert losses[0] > 0.1


def test_the_loss_by_hand():
    """A network of zeros errs by the actions themselves: their mean square, without the last row's."""
    net = jax.tree.map(jnp.zeros_like, InverseDynamics(jax.random.key(0), 2, 2, hidden=()))
    observations, actions = walks(jax.random.key(1), 6)
    expected = np.square(np.asarray(actions)[:, :-1]).mean()
    assert float(net.loss(observations, actions)) == pytest.approx(float(expected), rel=1e-5)


def test_a_pair_counts_where_both_of_its_rows_are_in_the_episode():
    """Of windows with all rows in the episode, the first 3, the last 2 and one, 4 + 2 + 1 pairs are left; numbers
    before its beginning and beyond its end mean nothing."""
    net = InverseDynamics(jax.random.key(0), 2, 2, hidden=(8,))
    observations, actions = walks(jax.random.key(1), 4)
    mask = jnp.array([[1.0, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 1, 0, 0]])
    error = np.square(net(observations[:, :-1], observations[:, 1:]) - actions[:, :-1]).mean(-1)
    expected = (error[0].sum() + error[1, :2].sum() + error[2, 3]) / 7
    assert float(net.loss(observations, actions, mask)) == pytest.approx(float(expected), rel=1e-5)
    beyond = jnp.where(mask[..., None] > 0, 0.0, 1e3)
    moved = net.loss(observations + beyond, actions + beyond, mask)
    assert float(moved) == pytest.approx(float(expected), rel=1e-5)
    assert float(net.loss(observations, actions, jnp.ones((4, 5)))) == pytest.approx(float(error.mean()), rel=1e-5)
    assert float(net.loss(observations, actions, jnp.zeros((4, 5)))) == 0
