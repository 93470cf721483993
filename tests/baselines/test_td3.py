"""TD3: the actor maximises the first critic alone, and explores with noise."""

from types import SimpleNamespace

import jax
import numpy as np

from bandit import bandit, start
from critics import linear
from reverie.baselines import TD3
from reverie.rl import Critic

SMALL = TD3(hidden=(8,), critic_hidden=(8,), exploring_noise=0.3)


def test_the_loss_is_minus_the_first_critic_and_no_imitation():
    state, batch, spec = start(SMALL, bandit(64))
    q = linear([[1.0, 2.0], [50.0, -9.0]], bias=0.4)
    action = state.actor.params(batch["observations"])
    found = SMALL.actor_loss(state.actor.params, Critic(SimpleNamespace(params=q), q), batch)
    np.testing.assert_allclose(found, -(action @ np.array([1.0, 2.0]) + 0.4).mean(), rtol=1e-5)
    # The second critic is not asked for it.
    loss = jax.jit(lambda q: SMALL.actor_loss(state.actor.params, Critic(SimpleNamespace(params=q), q), batch))
    two, five = (loss.lower(linear(n * [[1.0, 2.0]])).cost_analysis()["flops"] for n in (2, 5))
    assert five < 1.1 * two
    seen = np.zeros((500, spec.observation_dim))
    still, exploring = (each.choose(state, spec, seen, jax.random.key(0)) for each in (SMALL, SMALL.exploring))
    assert np.ptp(still, 0).max() == 0
    np.testing.assert_allclose((exploring - still).std(0), 0.3, rtol=0.1)
