"""PolyGRAD in a linear-Gaussian system, of whose windows the denoiser is known: the actions become the policy's; and
its parts by hand."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.errors import DataError
from reverie.rl import Normal
from reverie.roles import PolyGRAD
from reverie.roles.polygrad import STRONGEST, Model, as_windows, imagine, of_windows

H, STD, NOISE = 6, 0.4, 0.1
A, B = np.array([[1.0, 0.3], [0.0, 0.9]]), np.array([[0.0], [0.4]])
GAIN = np.array([[-0.5, -0.8]])
"""s' = A s + B a + NOISE z, and the policy a = GAIN s + STD z."""
ACTOR = SimpleNamespace(net=SimpleNamespace(layers=[SimpleNamespace(weight=jnp.zeros((1, 1)))]))


def powers(inputs: np.ndarray) -> np.ndarray:
    """What inputs `[2, m]` of each step do to all states: `[H 2, H m]`."""
    blocks = np.zeros((H, H, *inputs.shape))
    for t in range(H):
        for k in range(t):
            blocks[t, k] = np.linalg.matrix_power(A, t - 1 - k) @ inputs
    return np.concatenate([np.concatenate(list(row), 1) for row in blocks])


BEGUN = np.concatenate([np.linalg.matrix_power(A, t) for t in range(H)])
DRIVEN = powers(B)
COVARIANCE = NOISE**2 * powers(np.eye(2)) @ powers(np.eye(2)).T


class Exact(PolyGRAD):
    """With the denoiser of windows whose actions were chosen without a look at the states: given the first of these
    and all actions, they are Gaussian."""

    def denoise(self, model, x, t, actions):
        alpha, sigma = self.process.alpha(t), self.process.sigma(t)
        states, n = x[..., :2].reshape(len(x), -1), len(x)
        mean = x[:, 0, :2] @ BEGUN.T + actions.reshape(n, -1) @ DRIVEN.T
        gain = alpha * COVARIANCE @ jnp.linalg.inv(alpha**2 * COVARIANCE + sigma**2 * jnp.eye(2 * H))
        clean = (mean + (states - alpha * mean) @ gain.T).reshape(n, H, 2)
        return jnp.concatenate([clean, jnp.zeros((n, H, 1)), -jnp.ones((n, H, 1))], -1)

    def policy(self, actor, seen):
        mean = seen @ GAIN.T
        return Normal(mean, jnp.full_like(mean, STD))


EXACT = Exact(horizon=H, diffusion_steps=32, strength=0.015, strength_rate=0.3)
STARTS = jax.random.normal(jax.random.key(5), (512, 2))


@partial(jax.jit, static_argnums=0)
def imagined(algorithm, log_strength, key):
    """Trajectories, their metrics, and lambda after them."""
    found, model, told = algorithm.imagine(Model(None, None, log_strength), ACTOR, STARTS, jax.random.key(key))
    return found, told, model.log_strength


def regressed(found) -> tuple[np.ndarray, float]:
    """The actions' gain by the states, and the standard deviation of what that leaves."""
    states, actions = np.asarray(found.seen[:-1]).reshape(-1, 2), np.asarray(found.actions).reshape(-1, 1)
    gain, *_ = np.linalg.lstsq(states, actions, rcond=None)
    return gain.T, float((actions - states @ gain).std())


def test_actions_become_the_policy_s_and_states_theirs():
    log_strength = jnp.log(EXACT.strength)
    for key in range(20):
        found, told, log_strength = imagined(EXACT, log_strength, key)
    gain, std = regressed(found)
    np.testing.assert_allclose(gain, GAIN, atol=0.08)
    assert std == pytest.approx(STD, rel=0.05)
    assert told["action_std"] == pytest.approx(1, abs=0.05)
    assert 0.005 < told["strength"] < 0.02
    # The last state's covariance under the policy, in closed form, from the starts'.
    closed, spread = A + B @ GAIN, np.cov(np.asarray(STARTS).T)
    for _ in range(H - 1):
        spread = closed @ spread @ closed.T + STD**2 * B @ B.T + NOISE**2 * np.eye(2)
    np.testing.assert_allclose(np.cov(np.asarray(found.seen[-1]).T), spread, atol=0.1)


def test_with_too_small_a_lambda_actions_remain_off_the_policy():
    gain, std = regressed(imagined(replace(EXACT, farthest=100.0), jnp.log(1e-4), 0)[0])
    assert std > 1.5 * STD
    assert np.abs(gain - GAIN).max() > 0.4


class Strict(Exact):
    """Told anything but the starts it says nothing, and of them it tells what is wrong."""

    def denoise(self, model, x, t, actions):
        clean = super().denoise(model, x, t, actions).at[:, 0, :2].set(7.0)
        return jnp.where((x[:, 0, :2] == STARTS).all(), clean, jnp.nan)


def test_trajectories_begin_exactly_in_their_starts_at_every_level():
    algorithm = Strict(horizon=H, diffusion_steps=32, strength=0.01)
    found, *_ = imagined(algorithm, jnp.log(0.01), 0)
    np.testing.assert_array_equal(found.seen[0], STARTS)
    assert jnp.isfinite(found.seen).all()
    away = (found.actions[0] - STARTS @ GAIN.T) / STD
    assert away.std() == pytest.approx(1, abs=0.2)


def test_an_action_s_move_by_hand():
    policy = Normal(jnp.array([0.5, 0.5, 0.5]), jnp.array([0.2, 0.2, 0.2]))
    actions = jnp.array([0.7, 5.0, -5.0])
    # 0.5 + 0.2, a standard deviation off; the others are put at three of them, 1.1 and -0.1. The gradient is
    # -(a - 0.5) / 0.04: -5, -15 and 15.
    moved = PolyGRAD().moved(policy, actions, 0.01)
    np.testing.assert_allclose(moved, [0.65, 0.95, 0.05], atol=1e-6)
    np.testing.assert_allclose(PolyGRAD().moved(policy, actions, 1.0), [0.5, 0.5, 0.5], atol=1e-6)


def test_all_actions_are_within_three_standard_deviations_of_the_policy_at_their_states():
    found, *_ = imagined(EXACT, jnp.log(1e-4), 0)
    away = (found.actions - found.seen[:-1] @ GAIN.T) / STD
    assert 2.99 < jnp.abs(away).max() <= 3 + 1e-4


def test_lambda_grows_where_the_actions_spread_too_far():
    tuned = PolyGRAD(strength_rate=0.1).tuned
    assert tuned(-5.0, 1.5) == pytest.approx(-4.95)
    assert tuned(-5.0, 0.5) == pytest.approx(-5.05)
    assert tuned(np.log(STRONGEST), 2.0) == pytest.approx(np.log(STRONGEST))


def test_windows_end_with_their_task_and_are_unknown_beyond_a_cut():
    rows = {"observations": jnp.arange(12.0).reshape(3, 4, 1), "rewards": jnp.ones((3, 4)),
            "mask": jnp.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0.0]]),
            "terminals": jnp.array([[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0.0]])}  # fmt: skip
    x, known = as_windows(rows)
    np.testing.assert_array_equal(known, [1, 1, 0])
    np.testing.assert_array_equal(x[1, :, 1], [1, 1, 0, 0])
    np.testing.assert_array_equal(x[:2, :, 2], [[-1, -1, -1, -1], [-1, 1, 1, 1]])
    np.testing.assert_array_equal(of_windows(x, jnp.zeros((3, 4, 1))).terminals[:, 1], [0, 1, 1])


def walks(n=3000, seed=0) -> Dataset:
    """Of a point that goes where it is told, by episodes of 20 steps that end beyond 1; paid for where it is."""
    rng, rows = np.random.default_rng(seed), []
    while len(rows) < n:
        place = rng.uniform(-1, 1)
        for step in range(20):
            action = rng.uniform(-1, 1)
            after = place + 0.25 * action
            rows.append((place, action, place, after, after > 1, after <= 1 and step == 19))
            place = after
            if after > 1:
                break
    places, actions, rewards, following, terminals, timeouts = np.array(rows).T
    return Dataset.from_arrays(
        *(places[:, None], actions[:, None], rewards), terminals=terminals, timeouts=timeouts,
        next_observations=following[:, None], action_low=-1.0, action_high=1.0,
    )  # fmt: skip


SMALL = PolyGRAD(
    horizon=4, diffusion_steps=12, width=48, blocks=2, hidden=(16,), critic_hidden=(), batch_size=64, imagined=32,
    learning_rate=3e-3, actor_learning_rate=1e-3, policy_gradient_clip=1.0, strength=0.03, strength_rate=0.03,
    initial_std=0.5,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return reverie.fit(SMALL, walks(), steps=300, progress=False)


def test_what_is_imagined_is_what_would_happen(trained):
    states = np.linspace(-0.9, 0.9, 256, dtype=np.float32)[:, None]
    made = imagine(trained, states)
    assert len(made.episodes) == 256
    np.testing.assert_allclose(made.observations[made.episodes[:, 0]], states, atol=1e-5)
    expected = made.observations + 0.25 * made.actions
    errors = made.next_observations - expected
    assert np.abs(errors[:, 0]).mean() < 0.08 < 0.4 * np.abs(made.actions).mean()
    assert np.abs(made.rewards - made.observations[:, 0]).mean() < 0.1
    assert 0.8 < trained.metrics()["action_std"][-1] < 1.25
    ended = made.terminals
    assert ended.any()
    assert expected[ended].mean() > 0.8
    assert not (made.timeouts & made.terminals).any()


def test_it_acts_by_its_policy_s_mean_and_explores_by_samples(trained):
    algorithm, spec, state = trained.algorithm, trained.spec, trained.state()
    seen = jnp.zeros((500, 1))
    policy = algorithm.policy(state.actor.params, spec.normalise("observations", seen))
    acted, explored = (
        each.act(state, spec, seen, (), {}, jax.random.key(0))[0] for each in (algorithm, algorithm.exploring)
    )
    np.testing.assert_allclose(acted, policy.mean, atol=1e-6)  # the bounds are -1 and 1
    assert explored.std() > 0.5 * policy.std.mean()


def test_episodes_shorter_than_a_window_are_refused():
    short = Dataset.from_arrays(np.zeros((9, 1)), np.zeros((9, 1)), np.zeros(9), np.zeros(9),
                                timeouts=np.arange(9) % 3 == 2)  # fmt: skip
    with pytest.raises(DataError, match="No episode holds a window of horizon 4 nor ends its task: the longest has 3"):
        SMALL.prepare(short)
