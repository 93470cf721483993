"""FPO: what it climbs is the likelihood's direction, and it begins where the actions were taken."""

import jax
import jax.numpy as jnp
import numpy as np

from bandit import init
from reverie.data import Dataset
from reverie.policies import FPO
from reverie.policies.fpo import OUTPUT_SCALE
from reverie.training import fit_online
from slide import SHORT, Slide

SMALL = {"hidden": (32, 32), "critic_hidden": (16, 16), "learning_rate": 1e-3, "critic_learning_rate": 3e-3}
SMALL |= {"batch_size": 50, "epochs": 10, "discount": 0.99}
STD = 0.5
"""Of the Gaussian policy whose flow is known."""


def fitted() -> Dataset:
    """Steps of the task, for their units."""
    bounds = {"action_low": np.float32([-2]), "action_high": np.float32([6])}
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        100 * rng.normal(size=(64, 1)), np.full((64, 1), 2.0), np.zeros(64), np.ones(64), **bounds
    )


def exact(mean):
    """The network whose flow has its end at N(mean, STD²): the velocity that flow matching finds."""

    def flow(x, t, observation):
        t = t[..., None]
        variance = ((1 - t) * STD) ** 2 + t**2
        away = x - (1 - t) * mean
        data = mean + (1 - t) * STD**2 / variance * away
        return (t / variance * away - data) / OUTPUT_SCALE

    return flow


def test_the_loss_falls_in_the_direction_in_which_the_likelihood_rises():
    """By a Gaussian policy's mean, of 200 advantages of one sign each: the cosine to the exact gradient of
    sum A log p(a) is above 0.9, at the 8 noises and times an action."""
    algorithm, n = FPO(), 200
    keys = jax.random.split(jax.random.key(0), 4)
    mean = jnp.array([0.3, -0.2, 0.1])
    action = mean + STD * jax.random.normal(keys[0], (n, 3))
    advantage = action @ jnp.array([1.0, -2.0, 0.5])
    eps = jax.random.normal(keys[1], (n, 8, 3))
    t = jax.random.randint(keys[2], (n, 8), 1, 11) / 10

    def gain(mean):
        loss = algorithm.matching_loss(exact(mean), jnp.zeros((n, 1)), action, eps, t)
        return -(advantage * loss).sum()

    def likelihood(mean):
        return (advantage * jax.scipy.stats.norm.logpdf(action, mean, STD).sum(-1)).sum()

    one, other = jax.jit(lambda mean: (jax.grad(gain)(mean), jax.grad(likelihood)(mean)))(mean)
    assert one @ other / jnp.linalg.norm(one) / jnp.linalg.norm(other) > 0.9


def test_the_error_is_of_the_noise_that_the_velocity_tells():
    """(1 - t)² times that of the velocity eps - a."""
    algorithm = FPO(losses=2)
    action, eps, t = jnp.array([[0.5, -1.0]]), jnp.array([[[1.0, 2.0], [0.0, -1.0]]]), jnp.array([[0.2, 0.9]])
    found = algorithm.matching_loss(lambda x, t, o: 2 * x / OUTPUT_SCALE, jnp.zeros((1, 1)), action, eps, t)
    t = t[..., None]
    x = (1 - t) * action[:, None] + t * eps
    by_hand = ((1 - t) ** 2 * (2 * x - (eps - action[:, None])) ** 2).mean((1, 2))
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


def test_the_exact_velocity_s_flow_ends_in_the_gaussian():
    """So that the first test is of the policy that it says."""
    algorithm = FPO(flow_steps=100)
    noise = jax.random.normal(jax.random.key(0), (4000, 1))
    end = algorithm.end(exact(jnp.array([0.3])), jnp.zeros((4000, 1)), noise)
    np.testing.assert_allclose([end.mean(), end.std()], [0.3, STD], atol=0.03)


def test_the_environment_gets_the_hyperbolic_tangent_of_what_is_recorded():
    algorithm = FPO(**SMALL).exploring
    _, spec = algorithm.prepare(fitted())
    state = init(algorithm, jax.random.key(0), spec)
    seen = jnp.linspace(-100, 100, 50)[:, None]
    carry = algorithm.reset(spec, 50, {})
    act = jax.jit(lambda state: algorithm.act(state, spec, seen, carry, {"reward": jnp.zeros(50)}, jax.random.key(1)))
    action, carry = act(state)
    assert jnp.abs(carry["sample"]).max() > 1.5
    np.testing.assert_allclose((action - 2) / 4, jnp.tanh(carry["sample"]), atol=1e-5)
    still, _ = jax.jit(lambda state: FPO(**SMALL).act(state, spec, seen, (), {}, jax.random.key(1)))(state)
    end = FPO(**SMALL).choose(state, spec, algorithm.seen(state, spec.normalise("observations", seen)), None)
    np.testing.assert_allclose((still - 2) / 4, jnp.tanh(end), atol=1e-5)


def test_before_the_first_step_the_ratio_is_one():
    run = fit_online(FPO(**SMALL | {"epochs": 1, "batch_size": 200}), Slide, steps=600, **SHORT)
    np.testing.assert_allclose(run.metrics()["approx_kl"], 0, atol=1e-8)
    np.testing.assert_array_equal(run.metrics()["clip_fraction"], 0)


def test_it_learns_to_push_a_point_home():
    """At random an episode is worth about 30; who goes home straight gets about 85."""
    returns = fit_online(FPO(**SMALL), Slide, steps=4000, **SHORT).metrics()["return"]
    assert returns[:2].mean() < 45 and returns[-3:].mean() > 70
