"""What Diffusion Policy is compared with: likelihoods and energies in closed form, and what each does at a fork."""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.imitation.test_diffusion_policy import fork

import reverie
from reverie.data import Spec
from reverie.errors import ReverieError
from reverie.imitation import ACT, IBC, LSTMGMM, MDN, ChunkBC
from reverie.planning.chunks import Fitted, Overlap
from reverie.rl import NormalMixture

SPEC = Spec(1, 1, -jnp.ones(1), jnp.ones(1), {})
SHORT = {"observation_horizon": 1, "horizon": 4, "action_horizon": 2}


def none(n, horizon):
    return Overlap(jnp.zeros((n, horizon, 1)), jnp.zeros((n, horizon), bool), jnp.zeros((n, horizon)))


def test_a_mixture_of_one_is_a_gaussian_and_rows_outside_do_not_count():
    rng = np.random.default_rng(0)
    mean, std, x = rng.normal(size=(1, 3, 2)), rng.uniform(0.5, 2, (1, 3, 2)), rng.normal(size=(3, 2))
    each = -(((x - mean[0]) / std[0]) ** 2) / 2 - np.log(std[0]) - math.log(2 * math.pi) / 2
    mixture = NormalMixture(jnp.zeros(1), jnp.array(mean), jnp.array(std))
    np.testing.assert_allclose(mixture.log_prob(jnp.array(x)), each.sum(), rtol=1e-5)
    inside = jnp.array([1.0, 0, 1])
    np.testing.assert_allclose(mixture.log_prob(jnp.array(x), inside), each[[0, 2]].sum(), rtol=1e-5)


def test_a_mixture_is_a_density_and_draws_from_it():
    mixture = NormalMixture(
        jnp.log(jnp.array([0.25, 0.75])), jnp.array([[[-1.0]], [[2.0]]]), jnp.array([[[0.3]], [[0.5]]])
    )
    grid = jnp.linspace(-6, 8, 4001)
    mass = jnp.exp(jax.vmap(lambda x: mixture.log_prob(x.reshape(1, 1)))(grid)).sum() * (grid[1] - grid[0])
    np.testing.assert_allclose(mass, 1, atol=1e-4)
    many = NormalMixture(*(jnp.broadcast_to(x, (4000, *x.shape)) for x in mixture))
    drawn = many.sample(jax.random.key(0))[:, 0, 0]
    np.testing.assert_allclose((drawn < 0.4).mean(), 0.25, atol=0.03)
    np.testing.assert_allclose(drawn.mean(), -0.25 + 1.5, atol=0.06)
    assert set(np.unique(many.sample(jax.random.key(0), noise=0.0)).tolist()) == {-1.0, 2.0}


class Bowl:
    """An energy whose minimum is known."""

    def read(self, observations):
        return observations[:, 0]

    def __call__(self, features, chunks):
        return 200 * jnp.square(chunks - 0.5 * features[:, None, None]).sum((-1, -2))


def test_derivative_free_optimisation_finds_the_minimum_of_an_energy():
    policy = IBC(observation_horizon=1, horizon=2, action_horizon=1)
    seen = jnp.linspace(-1, 1, 9).reshape(9, 1, 1)
    found = policy.choose(Fitted(_Holder(Bowl())), SPEC, seen, none(9, 2), jax.random.key(0))
    np.testing.assert_allclose(found[..., 0], np.repeat(0.5 * seen[:, 0], 2, 1), atol=0.06)
    worse = IBC(observation_horizon=1, horizon=2, action_horizon=1, iterations=0, candidates=64)
    first = worse.choose(Fitted(_Holder(Bowl())), SPEC, seen, none(9, 2), jax.random.key(0))
    errors = [float(jnp.abs(each[..., 0] - 0.5 * seen[:, 0]).mean()) for each in (found, first)]
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize("iterations", [0, 3])
def test_a_chunk_beyond_what_is_executed_is_never_chosen(iterations):
    """However low its energy: here the minimum is at 1.05 to 1.5, and the best inside at the end of the range, 1."""
    policy = IBC(observation_horizon=1, horizon=1, action_horizon=1, iterations=iterations)
    seen = jnp.linspace(2.1, 3, 9).reshape(9, 1, 1)
    found = policy.choose(Fitted(_Holder(Bowl())), SPEC, seen, none(9, 1), jax.random.key(0))
    assert jnp.abs(found).max() <= 1
    np.testing.assert_allclose(found, 1, atol=0.02)


class _Holder:
    def __init__(self, params):
        self.params = params


def test_infonce_of_an_energy_that_knows_nothing_is_the_log_of_how_many_there_are():
    policy = IBC(**SHORT, hidden=(8,), negatives=15)
    flat = jax.tree.map(jnp.zeros_like, policy.network(jax.random.key(0), SPEC))
    batch = {"observations": jnp.ones((3, 1, 1)), "actions": jnp.ones((3, 4, 1))}
    np.testing.assert_allclose(policy.loss(flat, batch, jax.random.key(0)), math.log(16), rtol=1e-6)


WITH_PAST = IBC(horizon=3, hidden=(32,), negatives=15, candidates=16, iterations=1, learning_rate=1e-2)


def test_an_energy_does_not_see_actions_that_are_executed_already():
    net, seen = WITH_PAST.network(jax.random.key(0), SPEC), jax.random.normal(jax.random.key(1), (4, 2, 1))
    actions, key = jax.random.uniform(jax.random.key(2), (4, 3, 1)), jax.random.key(3)
    losses = [
        WITH_PAST.loss(net, {"observations": seen, "actions": rows}, key)
        for rows in (actions, actions.at[:, 0].set(-1.0), actions.at[:, 1].set(-1.0))
    ]
    assert losses[0] == losses[1] != losses[2]
    known = none(4, 3)._replace(rows=actions)
    chosen = WITH_PAST.choose(Fitted(_Holder(net)), SPEC, seen, known, key)
    np.testing.assert_array_equal(chosen[:, :1], actions[:, :1])


def test_what_an_executed_action_reveals_is_not_learned():
    """Demonstrated actions are like the uniform ones, but that each is the one before once more: of no energy that sees
    what is yet to be executed can the loss be below log 16."""
    policy = replace(WITH_PAST, horizon=2)
    state = policy.init(jax.random.key(0), SPEC)

    def update(state, key):
        again = policy.uniform(key, (512, 1, 1)).repeat(2, 1)
        state, metrics = policy.update(state, {"observations": jnp.zeros((512, 2, 1)), "actions": again}, key)
        return state, metrics["loss"]

    losses = jax.lax.scan(update, state, jax.random.split(jax.random.key(1), 60))[1]
    np.testing.assert_allclose(losses[-20:].mean(), math.log(16), atol=0.05)


def test_the_recurrent_policy_s_steps_see_no_later_observation_and_its_horizons_are_one():
    policy = LSTMGMM(observation_horizon=4, horizon=4, width=8, depth=2)
    net = policy.network(jax.random.key(0), SPEC)
    seen = jax.random.normal(jax.random.key(1), (2, 4, 1))
    before, after = net(seen), net(seen.at[:, 2].add(1.0))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one[:, :2], other[:, :2], rtol=1e-5)
        assert not np.allclose(one[:, 3], other[:, 3], atol=1e-3)
    with pytest.raises(ReverieError, match="horizon = 12, but LSTM-GMM has one action for each of its obs"):
        LSTMGMM(horizon=12)


def test_the_recurrent_policy_s_mixture_has_means_within_the_actions_range_and_robomimic_s_spread():
    net = LSTMGMM(observation_horizon=4, horizon=4, width=8).network(jax.random.key(0), SPEC)
    seen = jax.random.normal(jax.random.key(1), (2, 4, 1))
    far = jax.tree.map(lambda weight: 100 * weight, net)(seen)
    assert 0.9 < jnp.abs(far.mean).max() <= 1
    assert far.std.min() >= 1e-4
    biases, action = np.linspace(-2, 2, 15).astype(np.float32), 0.3
    flat = eqx.tree_at(lambda net: net.head.net.layers[-1].bias, jax.tree.map(jnp.zeros_like, net), jnp.array(biases))
    (mean, raw), logits = biases[5:].reshape(5, 2).T, biases[:5]
    std = np.log1p(np.exp(raw)) + 1e-4
    each = np.exp(-(((action - np.tanh(mean)) / std) ** 2) / 2) / std / math.sqrt(2 * math.pi)
    density = (np.exp(logits) / np.exp(logits).sum() * each).sum()
    likelihood = flat(seen).log_prob(jnp.full((2, 4, 1, 1), action))
    np.testing.assert_allclose(likelihood, np.full((2, 4), np.log(density)), rtol=1e-5)


def test_act_s_style_does_not_see_what_is_beyond_the_episode_s_end():
    policy = ACT(**SHORT, width=8, heads=1, depth=1, encoder_depth=1, latent=2, dropout=0.0)
    net = policy.network(jax.random.key(0), SPEC)
    seen, inside = jnp.ones((1, 1, 1)), jnp.array([[1.0, 1, 0, 0]])
    actions = jnp.ones((1, 4, 1))
    styles = [net.style(seen, actions.at[:, 2:].set(x), inside) for x in (0.0, 9.0)]
    np.testing.assert_allclose(styles[0].mean, styles[1].mean, rtol=1e-5)
    changed = net.style(seen, actions.at[:, 1].set(9.0), inside)
    assert not np.allclose(changed.mean, styles[0].mean, atol=1e-3)


def test_act_s_decoder_sees_what_the_encoder_made_of_the_observation_and_the_style_together():
    """Here it says the first of the encoder's tokens, that of the observation, which knows the style by then."""
    policy = ACT(**SHORT, width=8, heads=1, depth=1, latent=2)
    net = policy.network(jax.random.key(0), SPEC)
    said = eqx.tree_at(
        lambda net: (net.decoder, net.out),
        net,
        (lambda queries, context, key=None: jnp.broadcast_to(context[..., :1, :], queries.shape), lambda x: x),
    )
    one, other = (said.decode(jnp.ones((1, 1, 1)), jnp.full((1, 2), z)) for z in (0.0, 3.0))
    assert jnp.abs(one - other).max() > 1e-2
    assert len(net.context.layers) == 4  # the released code's
    shallow = replace(policy, encoder_depth=2).network(jax.random.key(0), SPEC)
    assert len(shallow.context.layers) == 2 and len(shallow.decoder.layers) == 1


FORK = {
    "chunk-bc": ChunkBC(**SHORT, hidden=(32, 32), learning_rate=2e-3),
    "mdn": MDN(**SHORT, hidden=(32, 32), learning_rate=2e-3, components=3),
}


@pytest.mark.parametrize("name", FORK)
def test_at_the_fork(name):
    """The mean of the demonstrations is 0, where a mean goes; a mixture takes either way."""
    run = reverie.fit(FORK[name], fork(), steps=500, progress=False)
    spec, state = run.spec, jax.tree.map(lambda x: x[0], run.states)
    seen = spec.normalise("observations", jnp.zeros((200, 1, 1)))
    choose = jax.jit(lambda key: FORK[name].choose(state, spec, seen, none(200, 4), key))
    made = np.asarray(spec.denormalise("actions", choose(jax.random.key(0))))[:, 0, 0]
    share = (made > 0.7).mean(), (made < -0.7).mean()
    if name == "chunk-bc":
        assert np.abs(made).max() < 0.5
    else:
        assert 0.3 < share[0] < 0.7
        assert sum(share) > 0.98
