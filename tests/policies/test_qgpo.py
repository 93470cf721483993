"""QGPO: the energy against the tilted mixture in closed form; the whole on the bandit."""

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic import Mixture

from bandit import BEST, CORNERS, REWARDS, act, bandit, fractions, spread, train
from reverie.diffusion import energy, sample
from reverie.learning import Optimised, optimiser
from reverie.policies import QGPO
from reverie.policies.qgpo import Energy
from reverie.rl import tilted_mean

OPTIMISED = True

MIXTURE = Mixture(jnp.ones(4) / 4, CORNERS, jnp.full((4, 2), 0.15**2))
ALPHA = 3.0
WANTED = np.exp(ALPHA * REWARDS) / np.exp(ALPHA * REWARDS).sum()
"""The corners' shares under the mixture times exp(alpha Q), Q being the corner's reward."""


def corner_q(observation, action):
    """The reward of the nearest corner, for one critic."""
    nearest = jnp.square(action[..., None, :] - jnp.asarray(CORNERS)).sum(-1).argmin(-1)
    return jnp.asarray(REWARDS)[nearest][None]


def exact_energy(process, x, t):
    """log E[exp(alpha Q) | x_t]: the ratio of the tilted mixture's density to the mixture's own."""
    tilted = Mixture(WANTED, MIXTURE.means, MIXTURE.variances)
    return tilted.log_density(process, x, t) - MIXTURE.log_density(process, x, t)


def mean_energy(process, x, t):
    """E[alpha Q | x_t], what regression on Q learns."""
    shares = jax.nn.softmax(MIXTURE._components(process, x, t)[1], axis=-1)
    return ALPHA * shares @ jnp.asarray(REWARDS)


def shares_under(process, function, n=4000):
    """The corners' shares of the mixture's exact denoiser, guided by an energy (x, t) -> [n]."""
    guided = energy(process, MIXTURE.denoiser(process), function)
    actions = np.asarray(
        sample(process, guided, jax.random.key(1), (n, 2), nfe=40, solver="dpm++2m", schedule="log-snr")
    )
    return np.bincount(np.linalg.norm(actions[:, None] - CORNERS, axis=-1).argmin(1), minlength=4) / n


def learned(algorithm, updates=2000):
    """The energy as (x, t) -> [n], learned from the mixture's own samples."""
    by = optimiser(3e-3, schedule="cosine", steps=updates)
    net = Energy(jax.random.key(0), 1, 2, hidden=(64, 64), time_scale=algorithm.time_scale)
    critic = SimpleNamespace(target=corner_q)

    def update(state, key):
        draw_key, loss_key = jax.random.split(key)
        support = MIXTURE.sample(draw_key, 128 * 16).reshape(128, 16, 2)
        batch = {"observations": jnp.zeros((128, 1)), "support": support}
        return state.minimise(lambda net: algorithm.energy_loss(net, critic, batch, loss_key), by)

    run = jax.jit(lambda keys: jax.lax.scan(update, Optimised.create(net, by), keys)[0].params)
    found = run(jax.random.split(jax.random.key(2), updates))
    return lambda x, t: found(x, t, jnp.zeros((len(x), 1)))


def test_the_exact_energy_reweights_the_modes_and_the_mean_of_q_does_not():
    process = QGPO().process
    exact = shares_under(process, lambda x, t: exact_energy(process, x, t))
    mean = shares_under(process, lambda x, t: mean_energy(process, x, t))
    np.testing.assert_allclose(exact, WANTED, atol=0.02)
    assert np.abs(mean - WANTED).max() > 0.06


@pytest.mark.slow
def test_the_contrastive_loss_learns_the_exact_energy_and_not_the_mean_of_q():
    algorithm = QGPO(alpha=ALPHA, time_scale=1.0)
    function, process = learned(algorithm), algorithm.process
    assert shares_under(process, function)[BEST] > 0.76  # the mean of Q gives 0.72, the exact energy 0.87
    for t in (0.15, 0.3, 0.5):
        x = process.perturb(MIXTURE.sample(jax.random.key(3), 1000), t, jax.random.normal(jax.random.key(4), (1000, 2)))
        found = function(x, t)

        def distance(other, found=found):  # energies are known up to a constant of t
            return float(jnp.std(found - other))

        assert distance(exact_energy(process, x, t)) < 0.6 * distance(mean_energy(process, x, t))


@pytest.fixture(scope="module")
def trained():
    algorithm = QGPO(
        behaviour_updates=700,
        critic_updates=300,
        widths=(64, 64),
        time_scale=1.0,
        critic_hidden=(32, 32),
        energy_hidden=(64, 64),
        learning_rate=3e-3,
        decay_updates=1700,
        alpha=6.0,
        guidance_scale=2.0,
        discount=0.0,
    )
    return algorithm, *train(algorithm, bandit(1024), 2500)


def test_the_best_corner_is_chosen_and_the_data_not_left(trained):
    actions = act(*trained)
    assert fractions(actions)[BEST] > 0.95
    assert (spread(actions) < 2).all()


def test_without_guidance_all_corners_stay(trained):
    algorithm, state, spec = trained
    shares = fractions(act(replace(algorithm, guidance_scale=0.0), state, spec), within=8)
    assert shares.min() > 0.15
    assert shares.sum() > 0.9


class Seen(QGPO):
    """Whose critics show the value that they would learn from."""

    def learn_q(self, critic, batch, next_value, *more):
        return critic, {"next_value": next_value}


@pytest.mark.parametrize(("backup", "wanted"), [(0.0, 1.5), (100.0, 3.0)])
def test_the_targets_have_a_temperature_of_their_own(backup, wanted):
    """Of 0 they are of the mean over the support, whatever the policy's is."""
    algorithm = Seen(backup_alpha=backup, alpha=7.0, widths=(8, 8), critic_hidden=(8,), energy_hidden=(8,))
    state = algorithm.init(jax.random.key(0), algorithm.prepare(bandit(32))[1])
    state = eqx.tree_at(lambda state: state.critic.target, state, lambda s, a: a[None, ..., 0])
    batch = {"next_observations": jnp.zeros((4, 1)), "next_support": jnp.full((4, 2, 1), jnp.array([[0.0], [3.0]]))}
    _, metrics = algorithm.learn_critic(state, batch, jax.random.key(1))
    np.testing.assert_allclose(metrics["next_value"], wanted, rtol=1e-5)


def test_the_tilted_mean_goes_from_the_mean_to_the_maximum():
    q = jnp.array([[0.0, 0.5, 2.0]])
    np.testing.assert_allclose(tilted_mean(q, 0.0), [2.5 / 3], rtol=1e-6)
    np.testing.assert_allclose(tilted_mean(q, 100.0), [2.0], rtol=1e-6)
    by_hand = sum(np.exp(1.5 * v) * v for v in (0, 0.5, 2)) / sum(np.exp(1.5 * v) for v in (0, 0.5, 2))
    np.testing.assert_allclose(tilted_mean(q, 1.5), [by_hand], rtol=1e-6)
