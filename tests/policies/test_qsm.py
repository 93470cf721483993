"""QSM: the loss is zero for the network whose score is Q's gradient, and for no other scale of it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critics import linear
from reverie.diffusion import sample
from reverie.policies import QSM
from reverie.rl import Critic, OnlineState


@pytest.mark.parametrize("temperature, scale, exact", [(0.1, 1.0, True), (0.3, 1 / 3, True), (0.1, 2.0, False)])
def test_the_score_is_the_gradient_of_the_mean_q_over_the_temperature(temperature, scale, exact):
    """Of two planes the second is below the first, and the mean is between them. A network that outputs `scale` times
    -sigma (1.5, 2) / 0.1."""
    algorithm = QSM(temperature=temperature, diffusion_steps=7)
    q = linear([[0.0, 5.0], [3.0, -1.0]], bias=jnp.array([1e3, 0.0]))
    state = OnlineState(None, None, Critic(SimpleNamespace(params=q), q))
    batch = {"observations": jnp.zeros((32, 1)), "actions": jnp.asarray(np.random.default_rng(0).normal(size=(32, 2)))}
    process = algorithm.process

    def net(x, feature, cond):
        sigma = process.sigma((feature + 1) / 7)
        return -scale * sigma[:, None] * jnp.array([1.5, 2.0]) / 0.1

    loss = algorithm.actor_loss(net, state, batch, jax.random.key(0))
    assert loss < 1e-6 if exact else loss > 10


def test_an_exact_chain_of_that_score_is_narrower_than_its_temperature_says():
    """Q a bowl of curvature 8 and the temperature 0.1, so that exp(Q / temperature) has the variance 0.0125; 10 % by
    5,000 samples. The gradient at a noisy action is not the score of the noised policy."""
    process = QSM(diffusion_steps=50).process

    def denoiser(x, t):
        return (x - process.sigma(t) ** 2 * 8 * (x - 0.2) / 0.1) / process.alpha(t)

    samples = sample(process, denoiser, jax.random.key(0), (5_000, 1), nfe=50, clip_x0=(-1.0, 1.0))
    np.testing.assert_allclose(samples.mean(), 0.2, atol=0.004)
    np.testing.assert_allclose(samples.var(), 0.0025, rtol=0.1)
