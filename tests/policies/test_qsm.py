"""QSM: the loss is zero for the network whose score is Q's gradient, and for no other scale of it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critics import linear
from reverie.policies import QSM
from reverie.rl import Critic, OnlineState


@pytest.mark.parametrize("temperature, scale, exact", [(0.1, 1.0, True), (0.3, 1 / 3, True), (0.1, 2.0, False)])
def test_the_score_is_the_gradient_of_the_smallest_q_over_the_temperature(temperature, scale, exact):
    """Of two planes the second is below the first. A network that outputs `scale` times -sigma (3, -1) / 0.1."""
    algorithm = QSM(temperature=temperature, diffusion_steps=7)
    q = linear([[0.0, 5.0], [3.0, -1.0]], bias=jnp.array([1e3, 0.0]))
    state = OnlineState(None, None, Critic(SimpleNamespace(params=q), q))
    batch = {"observations": jnp.zeros((32, 1)), "actions": jnp.asarray(np.random.default_rng(0).normal(size=(32, 2)))}
    process = algorithm.process

    def net(x, feature, cond):
        sigma = process.sigma((feature + 1) / 7)
        return -scale * sigma[:, None] * jnp.array([3.0, -1.0]) / 0.1

    loss = algorithm.actor_loss(net, state, batch, jax.random.key(0))
    assert loss < 1e-6 if exact else loss > 10
