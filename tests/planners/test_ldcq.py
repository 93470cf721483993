"""LDCQ: with an autoencoder that does nothing it is plain diffusion, and at a junction Q picks the rewarded arm."""

from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from carries import mixed_and_in_lockstep

import reverie
from reverie.data import Dataset
from reverie.diffusion import sample
from reverie.learning import Optimised
from reverie.planners import LDCQ
from reverie.planners.ldcq import capped_snr
from reverie.planning.sequence_vae import SequenceVAE
from reverie.rl import Critic, Normal

TINY = {
    "horizon": 4,
    "latent_dim": 2,
    "width": 16,
    "hidden": (32,),
    "critic_hidden": (32,),
    "diffusion_steps": 5,
    "support": 4,
    "candidates": 4,
}


def junction(episodes=200, seed=0) -> Dataset:
    """A corridor of four steps up, then eight to the left (three times of four) or to the right; the end of the right
    arm is rewarded by 1. Positions are in tenths."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-1.0, 1.0], episodes, p=[0.75, 0.25])
    actions = np.zeros((episodes, 12, 2))
    actions[:, :4, 1] = 1
    actions[:, 4:, 0] = side[:, None]
    actions += 0.05 * rng.normal(size=actions.shape)
    positions = np.cumsum(0.1 * actions, 1) - 0.1 * actions
    last = np.zeros((episodes, 12), bool)
    last[:, -1] = True
    return Dataset.from_arrays(
        positions.reshape(-1, 2),
        actions.reshape(-1, 2),
        (last & (side > 0)[:, None]).reshape(-1),
        last.reshape(-1),
        action_low=-1.5,
        action_high=1.5,
    )


class Identity(eqx.Module):
    """A window of one step whose latent is its action."""

    def encode(self, observations, actions):
        return Normal(actions[..., 0, :], jnp.zeros_like(actions[..., 0, :]))

    def decode(self, observation, z):
        return Normal(z, jnp.ones_like(z))


class WithoutLatents(LDCQ):
    def autoencoder(self, key, spec):
        return Identity()


def test_with_an_identity_for_autoencoder_it_is_diffusion_of_actions():
    algorithm = WithoutLatents(**TINY | {"horizon": 1, "candidates": 1}, replan_interval=1)
    view, spec = algorithm.prepare(junction(10))
    process = algorithm.process

    @jax.jit
    def both(key):
        state = algorithm.init(key, spec)
        batch, net = view.draw(key, 16), state.prior.params
        _, metrics = algorithm.learn_prior(state, batch, key)
        seen = batch["observations"][:, 0]
        weight = partial(capped_snr, process)
        loss = process.loss(net, batch["actions"][:, 0], key, seen, weight=weight).mean()
        acted, _ = algorithm.act(
            state, spec, spec.denormalise("observations", seen), algorithm.reset(spec, 16, {}), {}, key
        )
        denoiser = process.denoiser(net, seen[:, None])
        actions = sample(process, denoiser, key, (16, 1, 2), nfe=5)[:, 0]
        return metrics["diffusion_loss"], loss, spec.normalise("actions", acted), jnp.clip(actions, -1, 1)

    found, expected, acted, actions = both(jax.random.key(0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(acted, actions, atol=1e-5)
    assert np.abs(actions).min() < 0.9


def test_the_prior_s_loss_weighs_noisy_levels_little():
    """By a network that says 0, whose error is the latent's square."""
    process, z = LDCQ(**TINY).process, jnp.ones((4096, 2))
    weight = partial(capped_snr, process)
    found = process.loss(lambda x, t, c: 0 * x, z, jax.random.key(0), weight=weight)
    _, t, _ = process.noised(jax.random.key(0), z)
    np.testing.assert_allclose(found, np.minimum(np.square(process.alpha(t) / process.sigma(t)), 5), rtol=1e-4)
    assert found.min() < 0.1 < 5 == found.max()


def test_the_autoencoder_s_loss_is_a_likelihood_and_a_divergence_that_is_a_mean_of_log_ratios():
    """A window's rows are 6, 3 or 1; one latent is paid for by all of them, and all windows' rows count the same."""
    s, a = jax.random.normal(jax.random.key(1), (3, 6, 3)), jax.random.normal(jax.random.key(2), (3, 6, 2))
    rows = jnp.array([6, 3, 1])

    @jax.jit
    def everything(key):
        vae = SequenceVAE(key, 3, 2, 4, width=8, hidden=(8,))
        p, q = (Normal(*jax.random.uniform(each, (2, 4), minval=0.5, maxval=2.0)) for each in jax.random.split(key))
        drawn = p.sample(key, (100_000,))
        posterior, mask = vae.encode(s, a), jnp.float32(jnp.arange(6) < rows[:, None])
        z = posterior.sample(key)
        likelihood = (mask * jax.vmap(vae.decode, (1, None), 1)(s, z).log_prob(a)).sum(1)
        mean, log_std = jnp.split(vae.prior(s[:, 0]), 2, -1)
        divergence = posterior.kl_divergence(Normal(mean, jnp.exp(log_std)))
        loss, parts = vae.loss(s, a, mask, key, 0.3)
        return loss, parts, likelihood, divergence, p.kl_divergence(q), p.log_prob(drawn) - q.log_prob(drawn)

    loss, parts, likelihood, divergence, found, ratios = everything(jax.random.key(3))
    assert float(found) == pytest.approx(float(ratios.mean()), abs=5 * float(ratios.std()) / 300)
    assert float(parts["reconstruction_loss"]) == pytest.approx(-float(likelihood.sum()) / 10, rel=1e-5)
    assert float(parts["divergence"]) == pytest.approx(float(divergence.mean()), rel=1e-5)
    assert float(loss) == pytest.approx(float((0.3 * divergence - likelihood).sum()) / 10, rel=1e-5)
    # Whole windows: the released code's loss, mean likelihood and mean divergence over T.
    alone = SequenceVAE(jax.random.key(3), 3, 2, 4, width=8, hidden=(8,)).loss(
        s[:1], a[:1], jnp.ones((1, 6)), jax.random.key(3), 0.3
    )
    reconstruction, divergence = alone[1]["reconstruction_loss"], alone[1]["divergence"]
    assert float(alone[0]) == pytest.approx(float(reconstruction + 0.3 * divergence / 6), rel=1e-5)


def test_q_learns_the_segment_s_rewards_and_the_best_of_the_support():
    """Critics that say the sum of the latent: of the support the largest comes next, and the smaller target counts."""
    algorithm = LDCQ(**TINY, discount=0.5)
    view, spec = algorithm.prepare(junction(10))
    state = jax.jit(algorithm.init)(jax.random.key(0), spec)

    class Sum(eqx.Module):
        scale: jax.Array

        def __call__(self, s, z):
            return self.scale.reshape(2, *[1] * (z.ndim - 1)) * z.sum(-1)

    support = jnp.float32(np.random.default_rng(0).normal(size=(len(view), 4, 2)))
    view = view.joined({"support": support})
    online, target = Sum(jnp.float32([1.0, 2.0])), Sum(jnp.float32([3.0, 4.0]))
    critic = Critic(Optimised.create(online, algorithm.critic_optimiser), target)
    state = replace(state, critic=critic)
    batch = view.take(jnp.arange(48))
    _, metrics = jax.jit(algorithm.learn_q)(state, batch, jax.random.key(0))
    best = np.asarray(support[:48].sum(-1))
    best = np.take_along_axis(best, np.minimum(best, 2 * best).argmax(1)[:, None], 1)[:, 0]
    value = np.minimum(3 * best, 4 * best)
    rewards = junction(10).rewards.reshape(-1, 12)[:4]
    step = np.arange(48) % 12
    inside = step + 4 < 12
    expected = np.where(inside, value / 16, rewards[:, -1].repeat(12) * 0.5 ** (11 - step))
    assert float(metrics["td_target"]) == pytest.approx(expected.mean(), rel=1e-4)


def test_a_latent_is_decoded_for_the_interval_in_environments_at_different_steps():
    algorithm = LDCQ(**TINY, replan_interval=3)
    spec = algorithm.prepare(junction(4))[1]
    state = jax.jit(algorithm.init)(jax.random.key(0), spec)

    def observe(step):
        return jnp.arange(8.0).reshape(4, 2) / 10 + 0.1 * step

    mixed, lockstep, before = mixed_and_in_lockstep(algorithm, state, spec, observe, steps=(0, 1, 2, 3))
    for found, expected in zip(jax.tree.leaves(mixed), jax.tree.leaves(lockstep), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    changed = np.any(mixed[1].rows != before.rows, (1, 2))
    np.testing.assert_array_equal(changed, [True, False, False, True])


@pytest.fixture(scope="module")
def trained(optimised):
    algorithm = LDCQ(
        **TINY | {"diffusion_steps": 10, "support": 8, "candidates": 16, "hidden": (64, 64), "critic_hidden": (64, 64)},
        beta=0.2,
        vae_updates=300,
        ema_decay=0.99,
        prior_updates=800,
        learning_rate=2e-3,
        prior_learning_rate=2e-3,
        critic_learning_rate=2e-3,
        tau=0.05,
        discount=0.9,
        batch_size=64,
        replan_interval=4,
    )
    with optimised():
        return reverie.fit(algorithm, junction(), steps=1600, progress=False)


def decoded(run, candidates, n=256):
    """First actions at the junction, sideways."""
    algorithm = replace(run.algorithm, candidates=candidates)
    seen = jnp.broadcast_to(jnp.float32([0.0, 0.4]), (n, 2))
    carry = algorithm.reset(run.spec, n, {})
    return np.asarray(jax.jit(algorithm.act)(run.state(0), run.spec, seen, carry, {}, jax.random.key(0))[0])[:, 0]


def test_latents_at_the_junction_are_of_both_arms_and_q_picks_the_rewarded(trained):
    """What the prior draws goes left or right, with little between. (How often right is not tested: it goes from 0 to 1
    within a tenth around the junction.) Of 16 the best by Q goes right."""
    free = decoded(trained, 1)
    assert 0.1 < (free > 0).mean() < 0.7
    assert (np.abs(free) > 0.4).mean() > 0.65
    assert (decoded(trained, 16) > 0.6).mean() > 0.95


def test_values_are_discounted_over_segments_to_the_reward(trained):
    """The reward comes at the last of twelve steps; from the corridor's start the best way earns 0.9^11, from the
    junction 0.9^7: the one needs two values of states further on, and the other one."""
    algorithm, state, spec = trained.algorithm, trained.state(0), trained.spec
    seen = spec.normalise("observations", jnp.float32([[0.0, 0.0], [0.0, 0.4]]))
    z = algorithm.draw(state.prior_ema, seen, jax.random.key(0), 64)
    values = np.asarray(state.critic.target(seen[:, None], z).min(0))
    assert values[1].max() == pytest.approx(0.9**7, abs=0.06)
    assert values[1].min() < 0.1
    assert values[0].max() == pytest.approx(0.9**11, abs=0.06)
