"""DIPO: stored actions move up Q and stay moved, and what was done is what td_target is of."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset
from reverie.data.replay import Replay
from reverie.diffusion import posterior, sample
from reverie.diffusion.solvers import Solver
from reverie.policies import DIPO
from reverie.policies.dipo import IMPROVED
from reverie.training import loop

SMALL = DIPO(hidden=(8,), critic_hidden=(8,), diffusion_steps=3, batch_size=16, action_steps=1, action_rate=0.1)
RNG = np.random.default_rng(0)
DATA = Dataset.from_arrays(RNG.normal(size=(64, 1)), RNG.uniform(-1, 1, (64, 2)), np.ones(64), terminals=np.ones(64))


def bowl(observation, action):
    """Two critics, the smaller of which is -|a - (0.5, -0.5)|² + s."""
    value = observation[..., 0] - jnp.square(action - jnp.array([0.5, -0.5])).sum(-1)
    return jnp.stack([value + 1, value])


@pytest.mark.parametrize("action", [[0.0, 0.0], [0.9, -0.9], [0.5, 0.7]])
def test_the_first_step_is_adams_by_hand(action):
    """By the rate times the gradient over its size and epsilon, entry by entry; its norm clipped before."""
    start, steep = jnp.array([action]), replace(SMALL, action_clip=0.1)
    slope = -2 * (np.array([action]) - [0.5, -0.5])
    clipped = slope * min(1, 0.2 / np.linalg.norm(slope))
    found = steep.climb(bowl, jnp.zeros((1, 1)), start)
    np.testing.assert_allclose(found, start + 0.1 * clipped / (np.abs(clipped) + 1e-5), atol=1e-5)


def test_many_steps_reach_the_top_or_the_bounds_and_none_moves_nothing():
    many = replace(SMALL, action_steps=200, action_rate=0.03)
    start = jnp.asarray(RNG.uniform(-1, 1, (8, 2)))
    np.testing.assert_allclose(many.climb(bowl, jnp.zeros((8, 1)), start), np.tile([0.5, -0.5], (8, 1)), atol=0.02)
    outside = many.climb(lambda s, a: bowl(s, a / 4), jnp.zeros((8, 1)), start)
    np.testing.assert_allclose(outside, np.tile([1.0, -1.0], (8, 1)), atol=1e-6)
    np.testing.assert_array_equal(replace(SMALL, action_steps=0).climb(bowl, jnp.zeros((8, 1)), start), start)


@pytest.mark.parametrize("accumulate", [True, False])
def test_moved_actions_land_in_the_replay_or_as_in_the_released_code_do_not(accumulate):
    algorithm = replace(SMALL, accumulate=accumulate)
    view, spec = algorithm.prepare(DATA)
    rows = {name: x[None] for name, x in view.rows.items()}
    rows[IMPROVED] = rows["actions"]
    keys = loop.each_seed((0,))
    states = loop.initial_states(algorithm, keys, spec)
    replay = Replay({}, jnp.asarray(64))
    _, metrics, _, written = loop.advance(algorithm, states, keys, np.uint32(0), replay, rows, length=6)
    assert set(written) == {IMPROVED}
    moved = np.abs(written[IMPROVED] - rows["actions"])[0]
    first, last = metrics["moved"][0, [0, -1]]
    if accumulate:
        # 16 of 64 are drawn in each update: some twice or more, who have moved by more than one step of 0.1.
        assert 30 < (moved.max(-1) > 0.05).sum() < 64
        assert moved.max() > 0.15
        assert last > 1.2 * first  # what is drawn again begins where it was
    else:
        np.testing.assert_array_equal(moved, 0)
        np.testing.assert_allclose(last, first, rtol=0.2)


def test_without_steps_the_policy_clones_what_was_done():
    """The loss is that of behaviour cloning."""
    view, spec = SMALL.prepare(DATA)
    state = SMALL.init(jax.random.key(0), spec)
    batch = view.draw(jax.random.key(1), 16)
    key = jax.random.key(2)
    cloning = SMALL.denoising_loss(state.slow, batch, key).mean()
    still = replace(SMALL, action_steps=0)
    climbed = still.climb(state.critic.online.params, batch["observations"], batch["actions"])
    np.testing.assert_array_equal(still.actor_loss(state.slow, state, batch | {IMPROVED: climbed}, key), cloning)


def test_it_acts_by_denoising_without_noise_and_explores_and_bootstraps_with_all_of_it():
    """By hand: from the first noise on, each step to the mean of what DDPM draws from."""
    view, spec = SMALL.prepare(DATA)
    state, key, seen = SMALL.init(jax.random.key(0), spec), jax.random.key(1), jnp.zeros((500, 1))
    process, drawn = SMALL.process, jax.random.fold_in(key, 2)

    def by_hand(solver):
        noise = jax.random.normal(jax.random.split(drawn)[0], (500, 1, 2))
        denoiser = process.denoiser(state.actor.params, seen[:, None])
        options = {"noise": noise, "nfe": 3, "clip_x0": (-1.0, 1.0)}
        return sample(process, denoiser, drawn, (500, 1, 2), solver=solver, **options)[:, 0]

    mean = Solver(lambda row, x, x0, noise, memory: (posterior(row, x, x0)[0], memory))
    still, moved = (each.choose(state, spec, seen, key) for each in (SMALL, SMALL.exploring))
    np.testing.assert_allclose(still, by_hand(mean), atol=1e-6)
    np.testing.assert_allclose(moved, by_hand("ddpm"), atol=1e-6)
    assert jnp.abs(still - moved).max() > 0.05
    batch = view.draw(jax.random.key(2), 16)
    batch |= {"next_observations": batch["observations"], IMPROVED: batch["actions"]}
    quiet, noisy = (each.next_value(state, batch, key) for each in (SMALL, SMALL.exploring))
    np.testing.assert_array_equal(quiet, noisy)
