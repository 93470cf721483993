"""QVPO: the weights of its loss, and what it imitates."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset
from reverie.policies import QVPO
from reverie.policies.qvpo import State
from reverie.rl import Critic

SMALL = QVPO(hidden=(8,), diffusion_steps=3, sampled_actions=6, uniform_actions=2, entropy_weight=0.25)
BATCH = {"observations": jnp.array([[1.0], [3.0]]), "actions": jnp.zeros((2, 1))}
KEY = jax.random.key(0)


def state(q):
    net = SMALL.network(jax.random.key(1), SimpleNamespace(observation_dim=1, action_dim=1))
    return State(SimpleNamespace(params=net), net, Critic(SimpleNamespace(params=q), q), jnp.zeros((), jnp.int32))


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


def test_the_entropy_weight_falls_linearly_to_its_least():
    """And is the loss's: after half of the updates what uniform actions add to it is half of what it was."""
    algorithm = replace(SMALL, entropy_updates=100, least_entropy_weight=0.05)
    found = [algorithm.entropy_weight_at(step) for step in (0, 20, 50, 80, 100, 1000)]
    np.testing.assert_allclose(found, [0.25, 0.2, 0.125, 0.05, 0.05, 0.05], rtol=1e-6)
    assert replace(algorithm, entropy_updates=0).entropy_weight_at(10**6) == 0.25
    np.testing.assert_allclose(
        QVPO().entropy_weight_at(jnp.array([0, 500_000, 950_000])), [0.02, 0.01, 0.002], rtol=1e-6
    )
    begun = state(steep)
    losses = [algorithm.actor_loss(begun.slow, replace(begun, step=jnp.asarray(s)), BATCH, KEY) for s in (0, 50)]
    none = replace(algorithm, entropy_weight=0.0).actor_loss(begun.slow, begun, BATCH, KEY)
    np.testing.assert_allclose(losses[1] - none, (losses[0] - none) / 2, rtol=1e-4)


def test_an_update_is_counted():
    data = Dataset.from_arrays(np.zeros((8, 1)), np.zeros((8, 1)), np.ones(8), np.ones(8))
    view, spec = SMALL.prepare(data)
    begun = SMALL.init(KEY, spec)
    after, _ = jax.jit(SMALL.update)(begun, view.draw(KEY, 4), KEY)
    assert (begun.step, after.step) == (0, 1)
