"""QAM: the tuned flow is the behaviour tilted by exp Q, exactly where both can be written down."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import acted, flat, start, train, update
from critics import linear
from reverie.data import Dataset
from reverie.diffusion import draw_chain
from reverie.learning import Optimised
from reverie.policies import QAM
from reverie.policies.qam import MEMORYLESS
from reverie.rl import Critic

SMALL = QAM(hidden=(16,), critic_hidden=(16,), critics=2, flow_steps=5, inverse_temperature=0.5)
MEAN, STD, SLOPE = 0.1, 0.25, np.array([0.8, -0.5])
KEY = jax.random.key(2)


class Gaussian:
    """The velocity of N(MEAN, std²), moved at each of n levels by so much."""

    def __init__(self, n, shifts=None, std=STD):
        self.shifts = jnp.zeros((n, 2)) if shifts is None else shifts
        self.n, self.std = n, std

    def __call__(self, x, t, observation):
        t = jnp.broadcast_to(jnp.asarray(t), x.shape[:-1])[..., None]
        x0 = MEAN + (1 - t) * self.std**2 / ((1 - t) ** 2 * self.std**2 + t**2) * (x - (1 - t) * MEAN)
        return (x - x0) / t + self.shifts[jnp.round(self.n * (1 - t[..., 0])).astype(int)]


def data(n=2000):
    """Actions of N(MEAN, STD²) in two dimensions; rewards rise along SLOPE."""
    actions = np.clip(MEAN + STD * np.random.default_rng(0).normal(size=(n, 2)), -1, 1)
    return Dataset.from_arrays(np.zeros((n, 1)), actions, actions @ SLOPE, terminals=np.ones(n))


@pytest.fixture(scope="module")
def begun():
    return start(SMALL, data(64))


def with_critic(algorithm, state, q):
    return replace(state, critic=Critic(Optimised.create(q, algorithm.critic_optimiser), q))


@pytest.mark.parametrize("steps, off", [(5, 0.35), (200, 0.02)])
def test_of_a_gaussian_and_a_linear_q_the_chain_s_mean_moves_by_its_variance(begun, steps, off):
    """The tilted Gaussian's mean is moved by STD² SLOPE / temperature, its variance is as before. The loss is 0 (1e-5)
    of the velocities that differ from the behaviour's by the adjoints, and grows with the square of what is added.
    Their chain's mean is moved by the behaviour's chain's variance times Q's slope: with many steps by STD² times."""
    algorithm = replace(SMALL, flow_steps=steps)
    state, _, _ = begun
    behaviour, observation = Gaussian(steps), jnp.zeros((4, 1))
    state = with_critic(algorithm, state, linear([SLOPE, SLOPE]))
    state = replace(state, flow_ema=behaviour, tuned=SimpleNamespace(params=Gaussian(steps, std=0.6 * STD)))
    batch = {"observations": observation, "actions": jnp.zeros((4, 2))}
    chain, adjoint = algorithm.adjoint_chain(state, batch, KEY)

    # By hand: x_end = a x + b x0(x) + std z, where x0(x) has the slope k. Adjoints are the same whatever x is, and
    # whatever flow the chain is drawn by.
    times = np.append(np.arange(steps, 0, -1) / steps, 0)
    end, begin = times[1:], times[:-1]
    ratio = (1 - begin) / (1 - end)
    variance = begin**2 - (ratio * end) ** 2
    a, b = ratio * (end / begin) ** 2, (1 - end) * variance / begin**2
    k = (1 - begin) * STD**2 / ((1 - begin) ** 2 * STD**2 + begin**2)
    gain = np.append(np.cumprod((a + b * k)[:0:-1])[::-1], 1)  # of the sample, by the x that a step ends at
    np.testing.assert_allclose(adjoint[0], -0.5 * gain[:, None] * SLOPE, rtol=1e-4, atol=1e-6)

    noise = np.where(end > 0, variance, 0)
    moved = 0.5 * (noise * gain)[:, None] * SLOPE  # of each step's end
    shifts = jnp.asarray(-moved / (b * begin)[:, None], jnp.float32)

    @jax.jit
    def loss(factor):
        return algorithm.matching_loss(behaviour, observation, chain, adjoint, Gaussian(steps, factor * shifts))

    assert float(loss(1.0)) < 1e-5 * float(loss(0.0))
    assert float(loss(1.5)) == pytest.approx(0.25 * float(loss(0.0)), rel=1e-3)

    def ends(flow):
        denoiser = algorithm.process.denoiser(flow, observation)
        return draw_chain(algorithm.process, denoiser, MEMORYLESS, KEY, (4, 2), nfe=steps, kept=1)[:, -1]

    chain_variance = (noise * gain**2).sum()
    by = ends(Gaussian(steps, shifts)) - ends(behaviour)
    np.testing.assert_allclose(by, np.tile(0.5 * chain_variance * SLOPE, (4, 1)), rtol=2e-3)
    assert chain_variance == pytest.approx(STD**2, rel=off)


@pytest.mark.parametrize("std, factor", [(1.0, 1.05), (0.5, 1.13), (0.3, 1.17), (0.1, 0.95)])
def test_ten_steps_of_the_tuned_flow_move_the_mean_by_about_what_they_should(begun, std, factor):
    """So many times STD² SLOPE / temperature, of velocities that have no loss: the figures of the documentation."""
    steps = 10
    algorithm, behaviour = replace(SMALL, flow_steps=steps), Gaussian(steps, std=std)
    state = with_critic(algorithm, begun[0], linear([SLOPE, SLOPE]))
    state = replace(state, flow_ema=behaviour, tuned=SimpleNamespace(params=behaviour))
    batch = {"observations": jnp.zeros((1, 1)), "actions": jnp.zeros((1, 2))}
    chain, adjoint = algorithm.adjoint_chain(
        replace(state, tuned=SimpleNamespace(params=Gaussian(steps, std=0.05))), batch, KEY
    )
    assert (np.abs(chain[:, -1]) < 1).all()

    def loss(shifts):
        return algorithm.matching_loss(behaviour, batch["observations"], chain, adjoint, Gaussian(steps, shifts, std))

    # A sum of squares, each of one step's shift: two slopes tell where it is 0.
    nought, one = jnp.zeros((steps, 2)), jnp.ones((steps, 2))
    at, beyond = jax.grad(loss)(nought), jax.grad(loss)(one)
    tilted = Gaussian(steps, at / (at - beyond), std)
    assert float(loss(tilted.shifts)) < 1e-5 * float(loss(nought))
    noise = jnp.full((1, 2), 0.1)
    moved = [algorithm.integrate(flow, batch["observations"], noise) for flow in (tilted, behaviour)]
    np.testing.assert_allclose(moved[0] - moved[1], factor * 0.5 * std**2 * SLOPE[None], rtol=0.01)


def test_without_q_both_flows_are_one(begun):
    """An inverse temperature of 0: the adjoints are 0, and so is the loss of a tuned flow that is the behaviour's."""
    state, batch, _ = begun
    algorithm = replace(SMALL, inverse_temperature=0.0)
    chain, adjoint = algorithm.adjoint_chain(state, batch, KEY)
    assert float(jnp.abs(adjoint).max()) == 0
    loss = algorithm.matching_loss(state.flow_ema, batch["observations"], chain, adjoint, state.tuned.params)
    assert float(loss) == 0


def test_no_gradient_leads_from_the_critic_to_the_behaviour(begun):
    """Whatever the critics are, the behaviour's flow is the same bit for bit, and the tuned one is not."""
    state, batch, _ = begun
    other = with_critic(SMALL, state, jax.tree.map(lambda leaf: leaf + 0.1, state.critic.target))
    (one, _), (two, _) = (update(SMALL, each, batch, KEY) for each in (state, other))
    np.testing.assert_array_equal(flat(one.flow), flat(two.flow))
    assert not np.array_equal(flat(one.tuned), flat(two.tuned))


def test_the_slope_is_q_s_in_its_unit_and_is_0_beyond_the_bounds(begun):
    state, batch, _ = begun
    state = with_critic(SMALL, state, linear([SLOPE, 3 * SLOPE], bias=[5.0, 7.0]))
    chain, adjoint = SMALL.adjoint_chain(state, batch, KEY)
    inside = np.abs(chain[:, -1]) < 1
    assert 0 < inside.mean() < 1
    np.testing.assert_allclose(adjoint[:, -1], np.where(inside, -0.5 * 2 * SLOPE, 0), rtol=1e-5)
    same, scaled = replace(SMALL, normalise_q=True).adjoint_chain(state, batch, KEY)
    np.testing.assert_array_equal(same, chain)
    size = np.abs(2 * (np.clip(chain[:, -1], -1, 1) @ SLOPE) + 6).mean()
    np.testing.assert_allclose(scaled, adjoint / size, rtol=1e-4, atol=1e-7)


def test_td_target_is_the_critics_mean_less_their_deviation(begun):
    """Q = 1.2 and -0.2 whatever the action: 0.5 - 0.5 x 0.7, discounted by 0.8."""
    state, batch, _ = begun
    algorithm = replace(SMALL, discount=0.8)
    state = with_critic(algorithm, state, linear([[0.0, 0], [0, 0]], bias=[1.2, -0.2]))
    batch = batch | {"rewards": jnp.zeros(32), "terminals": jnp.zeros(32)}
    _, metrics = update(algorithm, state, batch, KEY)
    assert float(metrics["td_target"]) == pytest.approx(0.8 * (0.5 - 0.5 * 0.7), rel=1e-5)


@pytest.mark.parametrize("inverse_temperature", [0.0, 3.0])
def test_it_learns_the_tilted_gaussian(inverse_temperature):
    """The mean is moved by STD² SLOPE times the inverse temperature, 0.15 and -0.09, to 0.04; the spread is the
    behaviour's to a fifth, as ten steps of Euler's method narrow it. What maximised Q would be at the corner."""
    algorithm = QAM(
        hidden=(32, 32), critic_hidden=(32, 32), critics=2, learning_rate=3e-3, decay_updates=1500, batch_size=128,
        inverse_temperature=inverse_temperature, tau=0.02,
    )  # fmt: skip
    state, spec = train(algorithm, data(), steps=1500)
    actions = np.asarray(acted(algorithm, state, spec, jnp.zeros((4000, 1)), KEY))
    np.testing.assert_allclose(actions.mean(0) - MEAN, STD**2 * inverse_temperature * SLOPE, atol=0.04)
    np.testing.assert_allclose(actions.std(0) / STD, 0.9, atol=0.2)
