"""The ensemble of dynamics: its loss and its choices exactly, and what it learns of a linear system with noise."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import reverie
from reverie.data import Dataset
from reverie.learning import Snapshots
from reverie.models.ensemble import Ensemble, disagreement, distance_from_mean, outcome
from reverie.synthesizers import MBPO, TATU

A, B = np.array([[0.1, 0.2], [-0.3, -0.2]]), np.array([[0.5], [-0.4]])
REWARD, NOISE = np.array([1.0, -0.5, 0.3]), np.array([0.1, 0.3])
SMALL = {"hidden": (32, 32), "policy_hidden": (16,), "members": 4, "elites": 3, "learning_rate": 3e-3}


def system(n=6000, seed=0):
    """s' - s = A s + B a + noise of two sizes, in columns of very different scale, and a reward linear in (s, a)."""
    draw = np.random.default_rng(seed)
    states, actions = draw.normal(size=(n, 2)), draw.uniform(-1, 1, (n, 1))
    next_states = states + states @ A.T + actions @ B.T + NOISE * draw.normal(size=(n, 2))
    rewards = np.c_[states, actions] @ REWARD + 0.1 * draw.normal(size=n)
    scale = np.array([1.0, 100.0])
    return Dataset.from_arrays(
        states * scale, actions, rewards, np.zeros(n), np.ones(n), next_observations=next_states * scale
    )


@pytest.fixture(scope="module")
def run():
    return reverie.fit(MBPO(**SMALL), system(), steps=600, segment=300, progress=False)


@pytest.fixture(scope="module")
def elites(run):
    return run.algorithm.ready(run.state(), run.spec).models.ensemble


def random_ensemble(members=3, hidden=(8,)):
    return Ensemble(jax.random.key(0), 2, 1, members=members, hidden=hidden)


# Exactly


def test_the_loss_is_the_gaussians_negative_log_likelihood_and_the_weights_squares():
    draw = np.random.default_rng(0)
    s, a, y = (jnp.asarray(draw.normal(size=(3, 5, d)), jnp.float32) for d in (2, 1, 3))
    models = random_ensemble()
    mean, log_variance = models.each(s, a)
    expected = -norm.logpdf(y, mean, np.exp(np.asarray(log_variance) / 2)).mean((1, 2)).sum() + 0.01 * 3 * 10.5
    loss, metrics = models.loss(s, a, y, 0.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["model_error"], np.square(mean - y).mean(), rtol=1e-5)
    weights = sum(float((layer.weight**2).sum()) for layer in models.nets.layers)
    np.testing.assert_allclose(models.loss(s, a, y, 0.5)[0] - loss, 0.25 * weights, rtol=1e-4)


def test_every_member_sees_the_inputs_that_are_its_own():
    s, a = jnp.ones((3, 5, 2)), jnp.ones((3, 5, 1))
    models = random_ensemble()
    together, apart = models(s[0], a[0]), models.each(s, a)
    np.testing.assert_allclose(together[0], apart[0], rtol=1e-5)
    moved = models.each(s.at[1].add(1.0), a)[0]
    assert [(moved[i] != apart[0][i]).any() for i in range(3)] == [False, True, False]


def test_the_log_variance_stays_between_its_bounds():
    models, out = random_ensemble(), jnp.concatenate([jnp.zeros(3), jnp.array([-1e3, 0.0, 1e3])])
    models = eqx.tree_at(lambda each: each.highest, models, models.highest.at[2].set(1.5))
    _, log_variance = models.bounded(jnp.broadcast_to(out, (3, 5, 6)))
    np.testing.assert_allclose(log_variance[:2], np.broadcast_to([-10, -0.474, 0.5], (2, 5, 3)), atol=1e-3)
    np.testing.assert_allclose(log_variance[2], np.broadcast_to([-10, -0.201, 1.5], (5, 3)), atol=1e-3)


def test_the_two_measures_of_uncertainty_on_three_points():
    means = jnp.array([[[0.0, 0.0]], [[3.0, 0.0]], [[0.0, 4.0]]])
    np.testing.assert_allclose(disagreement(means), [5.0], rtol=1e-6)
    np.testing.assert_allclose(distance_from_mean(means), [np.hypot(1, 4 - 4 / 3)], rtol=1e-6)
    assert disagreement(means[:1]) == distance_from_mean(means[:1]) == 0


def test_elites_are_the_members_of_the_smallest_error_on_held_out_rows():
    """Members that predict a constant each, on data that never changes: the error is the constant's square."""
    algorithm = MBPO(**SMALL | {"members": 4, "elites": 2, "hidden": ()})
    rows = np.random.default_rng(0).normal(size=(20, 2))
    data = Dataset.from_arrays(rows, rows[:, :1], np.arange(20), np.zeros(20), np.ones(20), next_observations=rows)
    _, spec = algorithm.prepare(data)
    state = algorithm.init(jax.random.key(0), spec)
    layer = state.models.params.ensemble.nets.layers[0]
    constants = jnp.array([3.0, -1.0, 2.0, 0.5])
    bias = jnp.zeros_like(layer.bias).at[:, :2].set(constants[:, None])
    models = jax.tree.map(
        lambda x: bias if x is layer.bias else jnp.zeros_like(x) if x is layer.weight else x, state.models.params
    )
    error = models.errors(state.held_out)["ensemble"]
    rewards = np.square((spec.kept["rewards"][:4] - 9.5) / np.arange(20).std()).mean()
    np.testing.assert_allclose(error, (2 * constants**2 + rewards) / 3, rtol=1e-4)
    state = replace(state, best=Snapshots.first(models, models.errors(state.held_out)))
    highest = jnp.arange(12.0).reshape(4, 3)
    state = eqx.tree_at(lambda each: each.best.model.ensemble.highest, state, highest)
    chosen = algorithm.ready(state, spec).models.ensemble
    np.testing.assert_array_equal(chosen.nets.layers[0].bias[:, 0], [0.5, -1.0])
    np.testing.assert_array_equal(chosen.highest[:, 0], [9, 3])


def test_members_draw_from_bootstraps_of_their_own_that_hold_nothing_held_out():
    """Of 400 rows that are numbered, 50 are held out, and a bootstrap of the others holds 1 - 1/e of them."""
    number = np.arange(400.0)
    data = Dataset.from_arrays(
        number[:, None], number[:, None], number, np.zeros(400), np.ones(400), next_observations=number[:, None]
    )
    view, spec = MBPO(members=3, elites=1, held_out=50).prepare(data)
    batch = view.draw(jax.random.key(0), 4000)
    assert batch["observations"].shape == (4000, 3, 1)

    def numbers(observations):
        return np.rint(spec.denormalise("observations", observations))[..., 0]

    np.testing.assert_array_equal(
        numbers(batch["observations"]), np.rint(spec.denormalise("rewards", batch["rewards"][..., None]))[..., 0]
    )
    for member in range(3):
        seen = np.unique(numbers(batch["observations"][:, member]))
        own = np.unique(numbers(view.rows.rows["observations"][view.drawn[member]]))
        np.testing.assert_array_equal(seen, own)
        assert abs(len(own) / 350 - 0.632) < 0.06
        assert not np.isin(spec.kept["observations"][:50, 0], own).any()
    assert (np.sort(view.drawn[0]) != np.sort(view.drawn[1])).any()


# Learned


def test_the_mean_is_the_systems_and_the_variance_is_the_noises(run, elites):
    fresh, spec = system(2000, seed=1), run.spec
    s, a = spec.normalise("observations", fresh.observations), spec.normalise("actions", fresh.actions)
    mean, log_variance = elites(s, a)
    after, rewards = outcome(mean, jnp.asarray(fresh.observations), spec)
    states = fresh.observations / [1, 100]
    exact = states + states @ A.T + fresh.actions @ B.T
    error = np.sqrt(np.square(after / jnp.array([1.0, 100.0]) - exact).mean(1))
    assert (error < 0.35 * NOISE).all(), error
    exact_rewards = np.c_[states, fresh.actions] @ REWARD
    assert (np.sqrt(np.square(rewards - exact_rewards).mean(1)) < 0.05).all()
    stds = jnp.exp(log_variance / 2)[..., :2] * spec.normalisers["changes"].std / jnp.array([1.0, 100.0])
    np.testing.assert_allclose(stds.mean((0, 1)), NOISE, rtol=0.1)


def test_disagreement_grows_with_the_distance_from_the_data(run, elites):
    """At 2, 4, 8 and 16 standard deviations from the middle, in every direction."""
    angle = jnp.linspace(0, 2 * jnp.pi, 32, endpoint=False)
    around = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    distances = jnp.array([0.0, 2, 4, 8, 16])[:, None, None]
    mean, _ = elites(distances * around, jnp.zeros((5, 32, 1)))
    found = np.asarray(disagreement(mean[..., :2]).mean(-1))
    assert (np.diff(found) > 0).all(), found
    assert found[-1] > 10 * found[1]


def test_tatus_rollouts_are_long_in_the_data_and_short_far_from_it(run):
    """From starts 5 to 6 standard deviations out, where the linear system is as simple but has not been seen."""
    algorithm, spec = TATU(**SMALL, horizon=12, chunk=600, threshold=1.0), run.spec
    ready = algorithm.ready(run.state(), spec)
    angle = jnp.linspace(0, 2 * jnp.pi, 50, endpoint=False)
    around = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1) * jnp.linspace(5, 6, 50)[:, None]
    far = replace(spec, kept=spec.kept | {"observations": spec.denormalise("observations", around)})
    near, out = (algorithm.rollouts(ready, each, jax.random.key(0))["valid"].sum(1).mean() for each in (spec, far))
    assert near > 3 * out, (near, out)
    assert near > 3
