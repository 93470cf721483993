"""Policies of several agents: who acts by what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.baselines import MABC, MATD3BC, TD3BC
from reverie.data import Dataset
from reverie.errors import DataError

choose = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments)[0], static_argnums=0)
SIZES = {"observation_sizes": [2, 1, 2], "action_sizes": [1, 2, 2]}


def data(**changed) -> Dataset:
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(30, 3, 2)), rng.uniform(-3, 3, (30, 3, 2))
    observations[:, 1, 1] = actions[:, 0, 1] = 0
    arrays = {"observations": observations, "actions": actions, "rewards": rng.normal(size=30), "attributes": SIZES}
    ends = np.arange(30) % 5 == 4
    return Dataset.from_arrays(**arrays | changed, terminals=ends, action_low=-3, action_high=3)


def acted(algorithm, observations, seed=0):
    view, spec = algorithm.prepare(data())
    assert {x.ndim for x in view.rows.values()} <= {1, 2}
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda spec: algorithm.init(jax.random.key(0), spec), spec)
    state = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)
    return np.asarray(choose(algorithm, state, spec, jnp.asarray(observations, jnp.float32), (), {}, jax.random.key(0)))


@pytest.mark.parametrize(
    ("algorithm", "together"),
    [
        (MABC(hidden=(8,)), False),
        (MABC(hidden=(8,), joint=True), True),
        (MATD3BC(hidden=(8,), critic_hidden=(8,)), False),
    ],
    ids=["alone", "joint", "ma-td3-bc"],
)
def test_an_agent_acts_by_what_it_sees_or_by_what_all_see(algorithm, together):
    """In the environment's units, told which agent it is, and whatever stands beyond an agent's columns."""
    seen = np.zeros((1, 3, 2))
    moved, beyond = seen.copy(), seen.copy()
    moved[:, 2] += 1
    beyond[:, 1, 1] += 1
    actions, other, same = (acted(algorithm, each) for each in (seen, moved, beyond))
    assert actions.shape == (1, 3, 2)
    assert np.abs(actions).max() > 1
    assert np.abs(actions[0, 0] - actions[0, 2]).max() > 1e-3
    assert (np.abs(actions - other)[0].max(-1) > 1e-6).tolist() == [together, together, True]
    np.testing.assert_array_equal(actions, same)


def test_the_critics_see_what_all_see_and_do():
    algorithm = MATD3BC(hidden=(8,), critic_hidden=(8,))
    _, spec = algorithm.prepare(data())
    state = jax.eval_shape(lambda spec: algorithm.init(jax.random.key(0), spec), spec)
    assert max(leaf.shape[-2] for leaf in jax.tree.leaves(state.critic.target) if leaf.ndim == 3) == 12
    assert algorithm.standardise and MATD3BC().alpha == TD3BC().alpha


def test_what_is_no_teams_is_refused():
    with pytest.raises(DataError, match="give both an axis of agents"):
        MABC().prepare(data(actions=np.zeros((30, 2)), attributes={}))
