"""TD3+BC-Lag: how the multiplier moves, and what it does to the actor."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.baselines import TD3BCLag
from reverie.data import Dataset
from reverie.errors import ReverieError

SMALL = TD3BCLag(hidden=(8,), critic_hidden=(8,), critic_layer_norm=False, discount=0.9, multiplier_rate=0.1)
LENGTH = 5


def data() -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset.from_arrays(
        rng.normal(size=(20, 2)),
        rng.uniform(-1, 1, (20, 1)),
        rng.normal(size=20),
        np.zeros(20),
        np.arange(20) % LENGTH == LENGTH - 1,
        costs=rng.uniform(size=20),
    )


VIEW, SPEC = SMALL.prepare(data())
BATCH = VIEW.take(np.arange(8))
update = jax.jit(lambda algorithm, *arguments: algorithm.update(*arguments), static_argnums=0)


@pytest.fixture(scope="module")
def state():
    return jax.jit(SMALL.init)(jax.random.key(0), SPEC)


def costing(state, cost, multiplier):
    """A critic that knows one cost of everything."""
    zeros = jax.tree.map(jnp.zeros_like, state.cost_critic.online.params)
    bias = zeros.nets.layers[-1].bias
    net = jax.tree.map(lambda x: jnp.full_like(x, cost) if x is bias else x, zeros)
    online = replace(state.cost_critic.online, params=net)
    return replace(state, cost_critic=replace(state.cost_critic, online=online), multiplier=jnp.float32(multiplier))


@pytest.mark.parametrize("cost, before", [(80.0, 0.0), (80.0, 2.0), (20.0, 4.0), (20.0, 1.0), (0.0, 0.0)])
def test_the_multiplier_moves_by_what_the_budget_is_missed_by_and_stays_above_0(state, cost, before):
    """25 in 5 steps are 5 a step, and with a discount of 0.9 that goes on without end: 50."""
    assert float(state.allowed) == pytest.approx(50, rel=1e-5)
    after = update(SMALL, costing(state, cost, before), BATCH, jax.random.key(0))[0].multiplier
    assert float(after) == pytest.approx(max(before + 0.1 * (cost - 50), 0), abs=0.01)
    assert (float(after) > before) == (cost > 50)


def test_the_actor_maximises_q_less_lambda_times_the_cost(state):
    """By hand for lambda = 3; for 0 it is TD3+BC's loss."""
    net, seen = state.actor.params, BATCH["observations"]
    action = net(seen)
    q, cost = state.critic.online.params(seen, action)[0], state.cost_critic.online.params(seen, action).max(0)
    for multiplier in (0.0, 3.0):
        found = SMALL.loss_in(replace(state, multiplier=jnp.float32(multiplier)), net, state.critic, BATCH)
        gain = (q - multiplier * cost).mean() / (1 + multiplier)
        expected = jnp.square(action - BATCH["actions"]).mean() - 2.5 / jnp.abs(q).mean() * gain
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    plain = SMALL.actor_loss(net, state.critic, BATCH)
    assert float(SMALL.loss_in(state, net, state.critic, BATCH)) == pytest.approx(float(plain), rel=1e-6)


def test_both_critics_targets_move_when_the_actor_does(state):
    """At every second update, from the first on."""
    first = update(SMALL, state, BATCH, jax.random.key(0))[0]
    second = update(SMALL, first, BATCH, jax.random.key(1))[0]
    for of in (lambda state: state.critic, lambda state: state.cost_critic):
        before, once, twice = (jax.tree.leaves(of(each).target) for each in (state, first, second))
        assert any((a != b).any() for a, b in zip(before, once, strict=True))
        for moved, kept in zip(once, twice, strict=True):
            np.testing.assert_array_equal(moved, kept)
        assert any(
            (a != b).any()
            for a, b in zip(*(jax.tree.leaves(of(s).online.params) for s in (first, second)), strict=True)
        )


def test_a_discount_of_1_is_refused():
    with pytest.raises(ReverieError, match="discount = 1 lets a cost without end be infinite"):
        TD3BCLag(discount=1.0)
