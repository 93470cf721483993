"""Diffusion policies that learn online: how they act and explore, and which of two equal ways they keep."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from critics import linear
from reverie.data import Dataset, Spec
from reverie.data.replay import Replay
from reverie.learning import Optimised
from reverie.policies import DIPO, QSM, QVPO, SDAC
from reverie.rl import Critic, OnlineState
from reverie.training import loop

OPTIMISED = True
SPEC = SimpleNamespace(observation_dim=1, action_dim=2)


def test_the_best_candidate_acts_and_noise_is_added_in_exploring():
    algorithm = QSM(hidden=(8,), diffusion_steps=3, candidates=50, exploring_candidates=1, exploring_noise=0.5)
    spec = SPEC
    net, q = algorithm.network(jax.random.key(0), spec), linear([[1.0, -2.0], [3.0, 1.0]])
    state, seen = (
        OnlineState(SimpleNamespace(params=net), net, Critic(SimpleNamespace(params=q), q)),
        jnp.zeros((400, 1)),
    )

    def chosen(algorithm):
        return np.asarray(algorithm.choose(state, spec, seen, jax.random.key(1)))

    drawn = algorithm.sample_candidates(net, seen, jax.random.fold_in(jax.random.key(1), 2), 50, 2)
    best = np.asarray(q(seen[:, None], drawn)).min(0).argmax(1)
    np.testing.assert_allclose(chosen(algorithm), np.asarray(drawn)[np.arange(400), best], atol=1e-6)
    one, exploring = chosen(replace(algorithm, candidates=1)), chosen(algorithm.exploring)
    np.testing.assert_allclose((exploring - one).std(), 0.5, rtol=0.1)
    assert algorithm.exploring.candidates == 1


@pytest.mark.parametrize("n", [1, 20])
def test_td_target_is_of_the_best_of_the_slow_copy_s_candidates(n):
    """The target critics' largest of their smallest values, by hand; with one candidate that one's."""
    algorithm = QSM(hidden=(8,), diffusion_steps=3, target_candidates=n)
    net, target = algorithm.network(jax.random.key(0), SPEC), linear([[1.0, -2.0], [3.0, 1.0]])
    critic = Critic(SimpleNamespace(params=linear([[-1.0, 2.0], [-3.0, -1.0]])), target)
    s = jnp.zeros((400, 1))
    key, batch = jax.random.key(1), {"next_observations": s, "actions": jnp.zeros((400, 2))}
    drawn = algorithm.sample_candidates(net, s, key, n, 2)
    found = algorithm.next_value(OnlineState(SimpleNamespace(params=None), net, critic), batch, key)
    np.testing.assert_allclose(found, np.asarray(target(s[:, None], drawn)).min(0).max(1), atol=1e-6)


def trained(algorithm, updates: int):
    """In the bandit of one action with two equal peaks, at ±0.6 and 0.2 wide, where all actions have been tried."""
    rng, n = np.random.default_rng(0), 1024
    actions = rng.uniform(-1, 1, (n, 1))
    rewards = np.exp(-np.square((np.abs(actions[:, 0]) - 0.6) / 0.2) / 2)
    data = Dataset.from_arrays(np.zeros((n, 1)), actions, rewards, terminals=np.ones(n))
    view, spec = algorithm.prepare(data)
    rows = {name: x[None] for name, x in view.rows.items()}
    rows |= {name: rows[of] for name, of in loop.copied_columns(algorithm).items()}
    keys = loop.each_seed((0,))
    states = loop.initial_states(algorithm, keys, spec)
    replay = Replay({}, jnp.asarray(n))
    states, *_ = loop.advance(algorithm, states, keys, np.uint32(0), replay, rows, length=updates)
    return jax.tree.map(lambda leaf: leaf[0], states), spec


def acted(algorithm, state, spec: Spec) -> np.ndarray:
    act = jax.jit(lambda state: algorithm.act(state, spec, jnp.zeros((2000, 1)), (), {}, jax.random.key(1))[0])
    return np.asarray(act(state))[:, 0]


SMALL = {"hidden": (32, 32), "critic_hidden": (32, 32), "learning_rate": 1e-2, "batch_size": 128, "candidates": 1}
KEEPING = {
    "dipo": DIPO(diffusion_steps=20, action_steps=10, step_noise=1.0, **SMALL),
    "qsm": QSM(temperature=0.2, **SMALL),
    "sdac": SDAC(temperature=0.1, particles=16, **SMALL),
}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [DIPO(), QVPO()])
def test_gradients_are_no_longer_than_in_the_released_code(algorithm):
    """A first gradient of 100 entries of 30: Adam's first moment is a tenth of what is left of it, of norm 2."""
    assert algorithm.critic_hidden == (256, 256, 256)
    for optimiser in (algorithm.optimiser, algorithm.critic_optimiser):
        learned = Optimised.create(jnp.zeros(100), optimiser).apply(jnp.full(100, 30.0), optimiser)
        first = next(leaf for leaf in jax.tree.leaves(learned.moments) if leaf.shape == (100,))
        np.testing.assert_allclose(jnp.linalg.norm(first), 0.2, rtol=1e-4)


@pytest.mark.parametrize("name", KEEPING)
def test_both_of_two_equal_ways_are_kept(name):
    """20 to 80 % of 2000 actions on each side, 85 % within 0.2 of a peak (of even ones 40 %). Without the noise of its
    steps DIPO's are all on one side, which is how it acts by default."""
    algorithm = KEEPING[name]
    learned = trained(algorithm, 600)
    actions = acted(algorithm, *learned)
    assert 0.2 < (actions < 0).mean() < 0.8
    assert (np.abs(np.abs(actions) - 0.6) < 0.2).mean() > 0.85
    if isinstance(algorithm, DIPO):
        assert np.ptp(acted(replace(algorithm, step_noise=0.0), *learned)) < 0.2
