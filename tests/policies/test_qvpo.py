"""QVPO: the weights of its loss, and what it imitates."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from reverie.policies import QVPO
from reverie.rl import Critic, OnlineState

SMALL = QVPO(hidden=(8,), diffusion_steps=3, sampled_actions=6, uniform_actions=2, entropy_weight=0.25)
BATCH = {"observations": jnp.array([[1.0], [3.0]]), "actions": jnp.zeros((2, 1))}
KEY = jax.random.key(0)


def state(q):
    net = SMALL.network(jax.random.key(1), SimpleNamespace(observation_dim=1, action_dim=1))
    return OnlineState(SimpleNamespace(params=net), net, Critic(SimpleNamespace(params=q), q))


def steep(observation, action):
    """Q = s a, so that advantages are in proportion to s where the actions are the same."""
    return (observation * action).sum(-1)[None]


def test_where_no_action_is_better_nothing_is_learned():
    now = state(lambda observation, action: 0 * action.sum(-1)[None])
    assert SMALL.actor_loss(now.slow, now, BATCH, KEY) == 0


def test_the_best_sample_counts_by_its_advantage_and_uniform_actions_beside_it():
    """Against the weighted sum by hand, of the losses of the actions that were learned."""
    learned = []

    def spying(x, feature, cond):
        learned.append((x, cond))
        return net(x, feature, cond)

    net, now = state(None).slow, state(steep)
    loss = SMALL.actor_loss(spying, now, BATCH, KEY)
    sample_key, loss_key, uniform_key = (jax.random.fold_in(KEY, i) for i in (2, 3, 4))
    drawn = SMALL.sample_candidates(net, BATCH["observations"], sample_key, 6, 1)
    values = BATCH["observations"] * drawn[..., 0]
    advantage = values.max(1) - values.mean(1)
    uniform = jax.random.uniform(uniform_key, (2, 2, 1), minval=-1, maxval=1)
    actions = jnp.concatenate([drawn.max(1, keepdims=True), uniform], 1).reshape(6, 1)
    observations = jnp.repeat(BATCH["observations"], 3, 0)
    losses = SMALL.process.loss(net, actions, loss_key, observations).reshape(2, 3)
    weights = np.array([1, 0.25, 0.25]) * (advantage / advantage.mean())[:, None]
    np.testing.assert_allclose(loss, (weights * losses).sum() / 2, rtol=1e-4)
    np.testing.assert_array_equal(learned[0][1], observations)
