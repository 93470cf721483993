"""DVF on a walk along five cells, of which everything is known in closed form: with exact models, and learned."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset
from reverie.roles import DVF
from reverie.roles.dvf import values

CELLS, DISCOUNT = 5, 0.9
PLACES = np.linspace(-2.0, 2.0, CELLS)
REWARDS = np.array([2.0, 0.0, 0.0, 0.0, 1.0])
WALK = np.zeros((CELLS, CELLS))
"""A step left or right, each as likely, or none against the left wall; the last cell ends the task."""
for cell in range(CELLS - 1):
    WALK[cell, max(cell - 1, 0)] += 0.5
    WALK[cell, cell + 1] += 0.5
VALUES = np.linalg.solve(np.eye(CELLS) - DISCOUNT * WALK, REWARDS)
OCCUPANCY = (1 - DISCOUNT) * WALK @ np.linalg.inv(np.eye(CELLS) - DISCOUNT * WALK)
"""Of the states from the next step on, by the cell now; what is missing to 1 is the end of the task."""
SIZES = {"discount": DISCOUNT, "standardise": False, "future_nfe": 40, "draws": 2000, "width": 8, "blocks": 1}


def data(episodes=600, steps=25, seed=0) -> Dataset:
    """Walks from anywhere of at most so few steps that most are cut."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(episodes):
        cell = rng.integers(CELLS)
        for step in range(steps):
            action = rng.choice([-1, 1])
            ended = cell == CELLS - 1
            rows.append((PLACES[cell], action, REWARDS[cell], ended, not ended and step == steps - 1))
            if ended:
                break
            cell = max(cell + action, 0)
    places, actions, rewards, terminals, timeouts = np.array(rows).T
    return Dataset.from_arrays(places[:, None], actions[:, None], rewards, terminals=terminals, timeouts=timeouts)


class Exact(DVF):
    """With the walk's own denoiser of futures, each cell a narrow Gaussian."""

    def future_denoiser(self, state, when):
        cell, offset = nearest(when[0]), steps(when[1])
        share = POWERS[offset, cell]
        share = jnp.log(share / share.sum(-1, keepdims=True))

        def denoise(x, t):
            sigma, variance = self.future_process.sigma(t), 1e-4
            log = share - (x - PLACES) ** 2 / (2 * (variance + sigma**2))
            means = PLACES + variance / (variance + sigma**2) * (x - PLACES)
            return (jax.nn.softmax(log) * means).sum(-1, keepdims=True)

        return denoise


POWERS = jnp.array(np.stack([np.linalg.matrix_power(WALK, k) for k in range(70)]) + 1e-30)


def nearest(known):
    return jnp.abs(known[..., :1] - PLACES).argmin(-1)


def steps(features):
    return jnp.round(jnp.log(features[..., 1]) / np.log(DISCOUNT)).astype(int)


def survives(told):
    alive = jnp.clip(POWERS[steps(told[..., 3:]), nearest(told)].sum(-1), 1e-6, 1 - 1e-6)
    return jnp.log(alive / (1 - alive))[..., None]


@pytest.fixture(scope="module")
def walk():
    """The algorithm with exact models in its state, and its specification."""
    algorithm = Exact(**SIZES)
    spec = algorithm.prepare(data(40, steps=500))[1]
    assert int(spec.kept["longest_offset"][0]) == 66

    def reward(told):
        return spec.normalise("rewards", jnp.array(REWARDS)[nearest(told)][..., None])

    state = SimpleNamespace(
        reward=SimpleNamespace(params=reward), survival=SimpleNamespace(params=survives), future_ema=None
    )
    return algorithm, state, spec


def test_future_states_are_as_frequent_as_the_discounted_occupancy(walk):
    algorithm, state, spec = walk
    ask = jax.jit(lambda seen, key: algorithm.future_states(state, spec, seen, None, key, 4000))
    states, offsets, alive = ask(PLACES[:4, None], jax.random.key(0))
    found = np.stack([np.asarray((nearest(states) == cell) * alive).mean(1) for cell in range(CELLS)], 1)
    assert (np.abs(found - OCCUPANCY[:4]).sum(1) / 2).max() < 0.03  # total variation; 0.5 (4 / 4000)^0.5 is noise
    assert offsets.min() == 1 and offsets.max() > 40


def test_values_are_those_of_dynamic_programming(walk):
    algorithm, state, spec = walk
    ask = jax.jit(lambda seen, key: algorithm.value(state, spec, seen, None, key))
    found = ask(PLACES[:4, None], jax.random.key(1))
    # 2 sqrt(1/4) (1 / 2000)^0.5 / (1 - 0.9) is a standard error's bound, offsets that are spread evenly need less.
    np.testing.assert_allclose(found, VALUES[:4], atol=0.3)


def test_candidates_of_a_state_share_what_is_drawn(walk):
    """So that equal ones are equal, however few futures are drawn."""
    algorithm, state, spec = walk
    few = replace(algorithm, draws=3)
    actions = jnp.tile(jnp.array([[[0.3]]]), (2, 4, 1))
    ask = jax.jit(lambda seen, actions, key: few.returns(state, spec, seen, actions, key))
    found = ask(jnp.full((2, 1), PLACES[1]), actions, jax.random.key(2))
    np.testing.assert_array_equal(found, found[:, :1] + 0 * found)
    assert found[0, 0] != found[1, 0]


def test_the_candidate_of_the_largest_value_is_taken(monkeypatch):
    source = data(40)
    algorithm = DVF(**SIZES, hidden=(8,), candidates=5)
    spec = algorithm.prepare(source)[1]
    monkeypatch.setattr(DVF, "returns", lambda self, state, spec, observations, actions, key: actions[..., 0])

    @jax.jit
    def choose(seen, key):
        state = algorithm.init(jax.random.key(0), spec)
        drawn = algorithm.sample_candidates(state.behaviour.params, seen, jax.random.split(key)[0], 5, 1)
        return algorithm.choose(state, spec, seen, key), drawn

    chosen, drawn = choose(jnp.zeros((3, 1)), jax.random.key(1))
    np.testing.assert_allclose(chosen, drawn.max(1), atol=1e-6)
    assert (np.ptp(drawn, axis=1) > 0).all()


LEARNED = DVF(
    discount=DISCOUNT, width=32, blocks=1, hidden=(32,), batch_size=128, learning_rate=4e-3, draws=256,
    ema_start=500, ema_decay=0.97, action_dropout=0.5, diffusion_steps=2,
)  # fmt: skip


@pytest.mark.slow
def test_values_of_actions_are_learned_from_walks_that_were_cut(optimised):
    """Many are cut, some after their first step: what is then not known is made up for."""
    with optimised():
        run = reverie.fit(LEARNED, data(), steps=2000, segment=1000, progress=False)
        of_right, of_left = (values(run, PLACES[:, None], np.full((CELLS, 1), way)) for way in (1.0, -1.0))
    right = REWARDS + DISCOUNT * np.append(VALUES[1:], 0)
    left = REWARDS + DISCOUNT * np.append(VALUES[[0, 0, 1, 2]], 0)
    left[-1] = right[-1]
    np.testing.assert_allclose(of_right, right, atol=0.2 * VALUES.max())
    np.testing.assert_allclose(of_left, left, atol=0.2 * VALUES.max())
