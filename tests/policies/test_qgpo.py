"""QGPO: the energy against the tilted mixture in closed form; the whole on the bandit."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import Mixture

from bandit import BEST, CORNERS, act, bandit, fractions, spread, train
from reverie.diffusion import energy, sample
from reverie.policies import QGPO
from reverie.policies.qgpo import Energy
from reverie.rl import tilted_mean
from reverie.training import Optimised, optimiser

SLOPE = jnp.array([0.5, 0.25])
STD = 0.15


def linear_q(observation, action):
    return (action @ SLOPE)[None]


class MeanSquaredQGPO(QGPO):
    """The variant that learns E[alpha Q | a_t], which is exact at no noise level but the last."""

    def energy_loss(self, net, critic, batch, key):
        time_key, noise_key = jax.random.split(key)
        support = batch["support"]
        t = self.process.draw_times(time_key, support.shape[:1])
        noisy = self.process.perturb(support, t, jax.random.normal(noise_key, support.shape))
        wanted = self.alpha * critic.target(batch["observations"][:, None], support)[0]
        return jnp.square(net(noisy, t[:, None], batch["observations"][:, None]) - wanted).mean()


def tilted_weights(alpha):
    """Of the corners under the mixture times exp(alpha Q): all are shifted alike, so only Q at their means counts."""
    return np.asarray(jax.nn.softmax(alpha * jnp.asarray(CORNERS) @ SLOPE))


def guided_fractions(algorithm, updates=2500, n=4000):
    """Learn the energy from the mixture's own samples, then guide the mixture's exact denoiser with it."""
    mixture = Mixture(jnp.ones(4) / 4, CORNERS, jnp.full((4, 2), STD**2))
    by = optimiser(2e-3, schedule="cosine", steps=updates)
    net = Energy(jax.random.key(0), 1, 2, hidden=(64, 64))
    critic = SimpleNamespace(target=linear_q)

    def update(state, key):
        draw_key, loss_key = jax.random.split(key)
        batch = {"observations": jnp.zeros((64, 1)), "support": mixture.sample(draw_key, 64 * 16).reshape(64, 16, 2)}
        return state.minimise(lambda net: algorithm.energy_loss(net, critic, batch, loss_key), by)

    @jax.jit
    def run(key):
        state, _ = jax.lax.scan(update, Optimised.create(net, by), jax.random.split(key, updates))
        process = algorithm.process
        guided = energy(process, mixture.denoiser(process), lambda x, t: state.params(x, t, jnp.zeros((n, 1))))
        return sample(process, guided, jax.random.key(1), (n, 2), calls=40, solver="dpm++2m", grid="log-snr")

    actions = np.asarray(run(jax.random.key(2)))
    nearest = np.linalg.norm(actions[:, None] - CORNERS, axis=-1).argmin(1)
    return np.bincount(nearest, minlength=4) / n


def test_contrastive_energy_reweights_the_modes_exactly_and_regression_does_not():
    wanted = tilted_weights(3.0)
    contrastive = guided_fractions(QGPO(alpha=3.0))
    regressed = guided_fractions(MeanSquaredQGPO(alpha=3.0))
    np.testing.assert_allclose(contrastive, wanted, atol=0.04)
    assert np.abs(regressed - wanted).max() > 0.08


@pytest.fixture(scope="module")
def trained():
    algorithm = QGPO(
        behaviour_updates=800,
        critic_updates=200,
        widths=(64, 32),
        hidden=(32, 32),
        energy_hidden=(64, 64),
        learning_rate=3e-3,
        alpha=10.0,
        discount=0.0,
    )
    return algorithm, *train(algorithm, bandit(1024), 1600)


def test_the_best_corner_is_chosen_and_the_data_not_left(trained):
    actions = act(*trained)
    assert fractions(actions)[BEST] > 0.95
    assert (spread(actions) < 2).all()


def test_without_guidance_all_corners_stay(trained):
    algorithm, state, spec = trained
    shares = fractions(act(replace(algorithm, guidance_scale=0.0), state, spec), within=8)
    assert shares.min() > 0.15
    assert shares.sum() > 0.9


def test_the_tilted_mean_goes_from_the_mean_to_the_maximum():
    q = jnp.array([[0.0, 0.5, 2.0]])
    np.testing.assert_allclose(tilted_mean(q, 0.0), [2.5 / 3], rtol=1e-6)
    np.testing.assert_allclose(tilted_mean(q, 100.0), [2.0], rtol=1e-6)
    by_hand = sum(np.exp(1.5 * v) * v for v in (0, 0.5, 2)) / sum(np.exp(1.5 * v) for v in (0, 0.5, 2))
    np.testing.assert_allclose(tilted_mean(q, 1.5), [by_hand], rtol=1e-6)
