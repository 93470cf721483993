"""ReBRAC: both penalties by hand, and what each of them holds to the data."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import bandit, start
from critics import linear
from reverie.baselines import TD3BC, ReBRAC
from reverie.data import Dataset
from reverie.rl import Critic

SMALL = ReBRAC(hidden=(8,), critic_hidden=(8,), batch_size=32, actor_penalty=0.3, critic_penalty=0.7)


@pytest.fixture(scope="module")
def begun():
    return start(SMALL, bandit(64))


def test_the_next_action_is_the_data_s():
    actions = np.arange(6, dtype=np.float32)[:, None] / 10
    data = Dataset.from_arrays(np.zeros((6, 1)), actions, np.ones(6), [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1])
    view, _ = SMALL.prepare(data)
    np.testing.assert_allclose(
        view.rows["next_actions"][[0, 1, 3, 4], 0], view.rows["actions"][[0, 1, 3, 4], 0] + 0.1, atol=1e-6
    )
    assert len(view) == 5  # the last row's next action is not known


def test_the_target_pays_for_the_distance_to_the_next_action(begun):
    state, batch, _ = begun
    key = jax.random.key(3)
    actions = SMALL.next_actions(state, batch, key)
    distance = jnp.square(actions - batch["next_actions"]).sum(-1)
    free = replace(SMALL, critic_penalty=0.0).next_value(state, batch, key)
    np.testing.assert_allclose(SMALL.next_value(state, batch, key), free - 0.7 * distance, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(free, TD3BC.next_value(SMALL, state, batch, key))
    assert distance.max() > 0.1


def test_the_actor_s_loss_by_hand(begun):
    """penalty |a - pi|² - mean Q / mean |Q|, Q the smallest of the critics'."""
    state, batch, _ = begun
    q = linear([[1.0, 2.0], [50.0, -9.0]], bias=0.4)
    action = state.actor.params(batch["observations"])
    values = q(batch["observations"], action).min(0)
    expected = 0.3 * jnp.square(action - batch["actions"]).sum(-1).mean() - values.mean() / jnp.abs(values).mean()
    found = SMALL.actor_loss(state.actor.params, Critic(SimpleNamespace(params=q), None), batch)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
