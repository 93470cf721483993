"""Inverse dynamics: the actions of a linear system are found, and what lies beyond an episode's end does not count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.learning import Optimised, optimiser
from reverie.planning import DiffusionInverseDynamics, InverseDynamics


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


SMALL = DiffusionInverseDynamics(jax.random.key(0), 2, 2, hidden=(8,), steps=3)


def test_the_diffusion_loss_is_the_mean_over_pairs_in_the_episode():
    """Of one window of which the pairs count one by one, and none of which what lies beyond changes."""
    observations, actions = walks(jax.random.key(1), 1)
    key = jax.random.key(2)

    @jax.jit
    def loss(mask, beyond=0.0):
        outside = jnp.where(mask[..., None] > 0, 0.0, beyond)
        return SMALL.loss(observations + outside, actions + outside, key, mask)

    starts = [jnp.zeros((1, 5)).at[0, i : i + 2].set(1.0) for i in range(4)]
    each = [float(loss(mask)) for mask in starts]
    assert len(set(each)) == 4
    assert float(loss(jnp.ones((1, 5)))) == pytest.approx(np.mean(each), rel=1e-5)
    assert float(SMALL.loss(observations, actions, key)) == pytest.approx(np.mean(each), rel=1e-5)
    assert float(loss(jnp.array([[1.0, 1, 1, 0, 0]]))) == pytest.approx(np.mean(each[:2]), rel=1e-5)
    assert float(loss(starts[3], 1e3)) == pytest.approx(each[3], rel=1e-5)


def test_actions_begin_with_noise_of_the_temperature():
    """At temperature 0 what is drawn hangs on the last but one step's noise alone; the bounds always hold."""
    states = jax.random.normal(jax.random.key(1), (2, 64, 2))
    first = DiffusionInverseDynamics(jax.random.key(0), 2, 2, hidden=(8,), steps=1)
    drawn = [first.sample(*states, jax.random.key(2), temperature=t) for t in (0.0, 0.5)]
    alpha = float(first.process.alpha(1.0))
    noise = first.net(jnp.zeros((64, 2)), first.process.time_feature(1.0), jnp.concatenate([*states], -1))
    expected = jnp.clip(-float(first.process.sigma(1.0)) * noise / alpha, -1, 1)
    np.testing.assert_allclose(drawn[0], expected, atol=1e-4)
    assert np.abs(drawn[1] - drawn[0]).max() > 0.1
    assert np.abs(SMALL.sample(*states, jax.random.key(2))).max() <= 1
