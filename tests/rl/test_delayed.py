"""TD3's frame: what is computed, and what metrics say, in updates without one of the actor."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import bandit, start, update
from reverie.baselines import OMAR, TD3, TD3BC, ReBRAC, TD3BCLag
from reverie.data import Dataset
from traced import always, marked

SMALL = {"hidden": (8,), "critic_hidden": (8,), "policy_delay": 3}
DATA = replace(bandit(64), costs=np.ones(64, np.float32))
KEY = jax.random.key(0)


@pytest.mark.parametrize("kind", [TD3, TD3BC, ReBRAC, TD3BCLag])
def test_seeds_side_by_side_compute_no_loss_of_the_actor_where_none_learns(kind, monkeypatch):
    algorithm = kind(**SMALL)
    state, batch, _ = start(algorithm, DATA)
    both = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    monkeypatch.setattr(kind, "loss_in", marked(kind.loss_in))
    assert not always(algorithm.update, state, batch, KEY)
    assert not always(jax.vmap(algorithm.update, (0, None, None)), both, batch, KEY)
    assert always(lambda state: algorithm.loss_in(state, state.actor.params, state.critic, batch), state)


def test_seeds_side_by_side_learn_what_they_learn_alone():
    algorithm = TD3BC(**SMALL)
    state, batch, _ = start(algorithm, DATA)
    both = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    together = jax.jit(jax.vmap(algorithm.update, (0, None, None)))
    for number in range(5):
        both, _ = together(both, batch, jax.random.key(number))
        state, _ = update(algorithm, state, batch, jax.random.key(number))
    for mine, alone in zip(jax.tree.leaves(both), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(mine[1], alone, rtol=1e-4, atol=1e-6)


def test_the_actors_loss_of_a_row_of_metrics_is_that_of_the_updates_in_which_it_learns():
    algorithm, told = TD3BC(**SMALL), []
    first, batch, _ = start(algorithm, DATA)
    state = first
    for number in range(3):
        state, metrics = update(algorithm, state, batch, KEY)
        told.append(float(metrics["actor_loss"]))
        if number == 0:
            due = float(algorithm.loss_in(first, first.actor.params, state.critic, batch))
    assert np.mean(told) == pytest.approx(due, rel=1e-5)


def test_omars_search_is_not_made_for_seeds_side_by_side_either(monkeypatch):
    rng = np.random.default_rng(0)
    given = {"rewards": rng.normal(size=20), "terminals": np.arange(20) % 5 == 4}
    data = Dataset.from_arrays(rng.normal(size=(20, 2, 2)), rng.uniform(-1, 1, (20, 2, 1)), **given)
    algorithm = OMAR(hidden=(8,), critic_hidden=(8,))
    view, spec = algorithm.prepare(data)
    states = jax.eval_shape(jax.vmap(lambda key: algorithm.init(key, spec)), jax.random.split(KEY, 2))
    monkeypatch.setattr(OMAR, "rectified", marked(OMAR.rectified))
    assert not always(jax.vmap(algorithm.update, (0, None, None)), states, view.draw(KEY, 8), KEY)
