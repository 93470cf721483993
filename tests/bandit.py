"""A two-dimensional bandit: four ways to act, one of them the best. What every method for offline RL must tell apart.

Episodes have one step, end with the task, and start where the observation is always the same. Actions lie near the
corners (±0.8, ±0.8), equally often near each.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import reverie
from reverie.data import Dataset

CORNERS = 0.8 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
REWARDS = np.array([1.0, 0.0, 0.0, 0.0])
BEST = 0
STD = 0.05
"""Of the data's actions about their corner, in each direction."""


def bandit(n: int = 4000, rewards=REWARDS, seed: int = 0) -> Dataset:
    """n steps; `rewards` are those of the four corners."""
    rng = np.random.default_rng(seed)
    corner = np.arange(n) % 4
    actions = np.clip(CORNERS[corner] + STD * rng.normal(size=(n, 2)), -1, 1)
    return Dataset.from_arrays(np.zeros((n, 1)), actions, np.asarray(rewards)[corner], terminals=np.ones(n))


def train(algorithm, data, steps: int, seed: int = 0):
    """The state after so many updates, and the spec."""
    run = reverie.fit(algorithm, data, steps=steps, segment=steps, seed=seed, progress=False)
    return run.state(seed), run.spec


init = jax.jit(lambda algorithm, key, spec: algorithm.init(key, spec), static_argnums=0)
update = jax.jit(lambda algorithm, state, batch, key: algorithm.update(state, batch, key), static_argnums=0)


def start(algorithm, data, batch_size: int = 32):
    """A state before its first update, a batch and the spec."""
    view, spec = algorithm.prepare(data)
    return init(algorithm, jax.random.key(0), spec), view.draw(jax.random.key(1), batch_size), spec


@partial(jax.jit, static_argnums=0)
def acted(algorithm, state, spec, observation, key):
    """Actions `[n, action]` for observations `[n, observation]`."""
    return algorithm.act(state, spec, observation, algorithm.reset(spec, len(observation), {}), {}, key)[0]


def act(algorithm, state, spec, n: int = 2000, seed: int = 0) -> np.ndarray:
    """n actions `[n, 2]` in the bandit, drawn independently where the method draws."""
    return np.asarray(acted(algorithm, state, spec, jnp.zeros((n, spec.observation_dim)), jax.random.key(seed)))


def flat(tree) -> np.ndarray:
    """All numbers of a tree, one after another, in double precision."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def distances(actions) -> np.ndarray:
    """From every corner, in standard deviations of the data: `[n, 4]`."""
    return np.linalg.norm(np.asarray(actions)[:, None] - CORNERS, axis=-1) / STD


def fractions(actions, within: float = 5.0) -> np.ndarray:
    """The share of the actions within so many of the data's standard deviations of each corner: `[4]`.

    Of the data themselves, 4e-6 lie beyond the default.
    """
    return (distances(actions) < within).mean(0)


def spread(actions, corner: int = BEST) -> np.ndarray:
    """Standard deviation of the actions nearest to that corner, in the data's own: `[2]`."""
    return np.asarray(actions)[distances(actions).argmin(1) == corner].std(0) / STD
