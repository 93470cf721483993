"""DSRL: noise that is chosen steers a policy that stays as it is."""

from dataclasses import dataclass, replace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.data.replay import Replay
from reverie.errors import ReverieError, RunError
from reverie.policies import DSRL, DiffusionBC
from reverie.training import beginning, fit_online, loop

SIZES = {"hidden": (32, 32), "diffusion_steps": 5, "learning_rate": 1e-2, "batch_size": 64}
SMALL = DSRL(actor_hidden=(32,), critic_hidden=(32, 32), tau=0.05, target_entropy=None, **SIZES)
RNG = np.random.default_rng(0)


def two_ways(n=1024) -> Dataset:
    """Actions near -0.5 and 0.5, as often, of which the second is paid."""
    side = RNG.choice([-1.0, 1.0], n)
    actions = (0.5 * side + 0.05 * RNG.normal(size=n))[:, None]
    return Dataset.from_arrays(np.zeros((n, 1)), actions, (side > 0).astype(np.float32), terminals=np.ones(n))


DATA = two_ways()


@pytest.fixture(scope="module")
def cloned():
    return reverie.fit(DiffusionBC(**SIZES), DATA, steps=500, segment=500, progress=False)


def acted(algorithm, state, spec, n=1000):
    act = jax.jit(lambda state: algorithm.act(state, spec, jnp.zeros((n, 1)), (), {}, jax.random.key(1))[0])
    return np.asarray(act(state))[:, 0]


def test_the_noise_goes_to_the_way_that_is_paid_and_the_policy_stays(cloned):
    """85 % of what is sampled and all by the mode, where half of the cloned policy's actions go there. With an entropy
    of minus one; noise of the default's, 0, is even in half of its range, whose edge is between the two ways."""
    states = beginning.states(SMALL, cloned.spec, (0,), cloned)
    view, _ = SMALL.prepare(DATA, cloned.spec)
    rows, keys = {name: x[None] for name, x in view.rows.items()}, loop.each_seed((0,))
    before = jax.tree.map(np.asarray, states.base)
    noise = RNG.normal(size=(1000, 1)) / SMALL.magnitude
    free = np.asarray(SMALL.action(cloned.state(0).actor.params, jnp.zeros((1000, 1)), jnp.asarray(noise)))
    assert 0.4 < (free > 0).mean() < 0.6
    states, *_ = loop.advance(SMALL, states, keys, np.uint32(0), Replay({}, jnp.asarray(1024)), rows, length=250)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(states.base), strict=True):
        np.testing.assert_array_equal(old, new)
    state = jax.tree.map(lambda leaf: leaf[0], states)
    sampled, best = (acted(each, state, cloned.spec) for each in (SMALL.exploring, SMALL))
    assert (np.abs(sampled - 0.5) < 0.25).mean() > 0.85
    assert (np.abs(best - 0.5) < 0.25).all()


class Paying(gymnasium.Env):
    """One step, which pays 1."""

    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, True, False, {}


@dataclass(frozen=True)
class Watching(DSRL):
    """Tells the mean reward of a batch, in units of its own."""

    unit: float = 1.0

    def update(self, state, batch, key):
        state, metrics = super().update(state, batch, key)
        return state, metrics | {"reward": batch["rewards"].mean() / self.unit}


def test_rewards_are_on_the_scale_that_is_asked_for_and_observations_and_actions_as_the_policy_knows_them(cloned):
    """A clone's own run has none of rewards. Online, and on data."""
    algorithm = Watching(rewards="minus-one", actor_hidden=(8,), critic_hidden=(8,), **SIZES)
    how = {"warmup": 20, "update_interval": 10, "log_every": 10, "utd_ratio": 0.1, "progress": False}
    run = fit_online(algorithm, Paying, steps=30, initial=cloned, **how)
    np.testing.assert_array_equal(run.metrics()["reward"], 0)
    view, spec = beginning.prepared(algorithm, DATA, None, cloned)
    np.testing.assert_array_equal(view.rows["rewards"], DATA.rewards - 1)
    known = {name: each for name, each in spec.normalisers.items() if name != "rewards"}
    np.testing.assert_equal(jax.tree.leaves(known), jax.tree.leaves(cloned.spec.normalisers))


def test_without_magnitude_there_is_one_action_and_the_start_decides_it(cloned):
    state = SMALL.init_from(jax.random.key(0), cloned.spec, cloned, cloned.state(0))
    still = acted(replace(SMALL, magnitude=1e-6).exploring, state, cloned.spec, 50)
    assert np.ptp(still) < 1e-4
    assert np.ptp(acted(SMALL.exploring, state, cloned.spec, 50)) > 0.1
    # The same noise, the same action, whatever the key is.
    assert np.ptp(acted(SMALL, state, cloned.spec, 50)) < 1e-6


def test_before_it_has_learned_it_acts_as_the_cloned_policy_does_whatever_the_magnitude_is(cloned):
    state = SMALL.init_from(jax.random.key(0), cloned.spec, cloned, cloned.state(0))
    found = acted(replace(SMALL, magnitude=1e-6).warming, state, cloned.spec, 4000)
    noise = RNG.normal(size=(4000, 1))
    free = SMALL.action(state.base, jnp.zeros((4000, 1)), jnp.asarray(noise / SMALL.magnitude))
    np.testing.assert_allclose(*(np.quantile(x, (0.1, 0.3, 0.5, 0.7, 0.9)) for x in (found, free)), atol=0.05)


def test_what_it_cannot_begin_from_or_act_with_is_refused(cloned):
    with pytest.raises(ReverieError, match="solver = 'ddpm' adds noise"):
        DSRL(solver="ddpm")
    with pytest.raises(RunError, match="diffusion_steps=5 and this dsrl 4; give it as many"):
        beginning.states(replace(SMALL, diffusion_steps=4), cloned.spec, (0,), cloned)
    with pytest.raises(RunError, match="dsrl begins from a run of diffusion-bc"):
        beginning.states(SMALL, cloned.spec, (0,), None)
