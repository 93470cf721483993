"""IQL on a chain whose values are known: V is an expectile over the data's own actions, whatever lies beyond them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import acted, train
from reverie.baselines import IQL
from reverie.data import Dataset

STATES, DISCOUNT = 4, 0.8
ACTIONS = np.array([-0.5, 0.0, 0.5])
"""Those of the data, equally often: to stay, to go back (to the first state), to go on; what they pay is below."""
REWARDS = np.array([0.0, 0.05, 0.0])


def chain() -> Dataset:
    """Every state with every action, 20 times. Going on from the last state ends the task and pays 1."""
    state, action = (each.ravel() for each in np.meshgrid(np.arange(STATES), np.arange(3), indexing="ij"))
    state, action = np.tile(state, 20), np.tile(action, 20)
    ends = (state == STATES - 1) & (action == 2)
    next_state = np.where(action == 0, state, np.where(action == 1, 0, np.minimum(state + 1, STATES - 1)))
    return Dataset.from_arrays(
        np.eye(STATES)[state], ACTIONS[action][:, None], np.where(ends, 1.0, REWARDS[action]), ends,
        np.ones(len(ends)), next_observations=np.eye(STATES)[next_state],
    )  # fmt: skip


def expectile(q, p) -> float:
    v = q.mean()
    for _ in range(200):
        weight = np.where(q > v, p, 1 - p)
        v = (weight * q).sum() / weight.sum()
    return v


def values(p):
    """V `[states]` and Q `[states, 3]` of the tabular method: the fixed point of the expectile's backup."""
    v = np.zeros(STATES)
    for _ in range(200):
        q = np.stack([REWARDS[0] + DISCOUNT * v, np.full(STATES, REWARDS[1] + DISCOUNT * v[0]),
                      np.append(REWARDS[2] + DISCOUNT * v[1:], 1.0)], axis=1)  # fmt: skip
        v = np.array([expectile(row, p) for row in q])
    return v, q


def learn(p):
    algorithm = IQL(
        hidden=(32, 32), critic_hidden=(32, 32), expectile=p, inverse_temperature=20.0, discount=DISCOUNT,
        learning_rate=3e-3, tau=0.05,
    )  # fmt: skip
    return algorithm, *train(algorithm, chain(), steps=1500)


@pytest.mark.parametrize("p", [0.5, 0.95])
def test_values_are_those_of_the_tabular_method(p):
    """To 0.05. At 0.95 they are within 0.1 of the best of the data's actions, 0.8³ to 1; at 0.5 they are the
    behaviour's, far from it."""
    algorithm, state, spec = learn(p)
    v, q = values(p)
    found_v = state.critic.v.params(jnp.eye(STATES))[:, 0]
    found_q = state.critic.q.target(jnp.eye(STATES)[:, None], jnp.asarray(ACTIONS, jnp.float32)[:, None]).min(0)
    np.testing.assert_allclose(found_v, v, atol=0.05)
    np.testing.assert_allclose(found_q, q, atol=0.05)
    best = DISCOUNT ** np.arange(STATES - 1, -1, -1.0)
    assert (np.abs(found_v - best).max() < 0.1) == (p == 0.95)
    if p == 0.95:
        # What no one did looks better than anything that was done, and yet V has heard nothing of it.
        beyond = state.critic.q.target(jnp.eye(STATES), jnp.ones((STATES, 1))).min(0)
        assert beyond[-1] > found_v[-1] + 0.1
        actions = acted(algorithm, state, spec, jnp.eye(STATES), jax.random.key(0))
        np.testing.assert_allclose(actions[-1], 0.5, atol=0.1)
