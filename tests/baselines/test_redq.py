"""REDQ: which critics td_target takes, and when and by what the actor learns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bandit import bandit, start, update
from reverie.baselines import REDQ
from reverie.errors import ReverieError, RunError
from reverie.training import fit_online
from traced import always, marked

SMALL = REDQ(hidden=(8,), critic_hidden=(8,), critics=5, policy_delay=3, learning_rate=1e-2)
BANDIT = bandit(64)
DATA = replace(BANDIT, terminals=np.zeros(64, bool), timeouts=np.ones(64, bool), next_observations=BANDIT.observations)


@pytest.fixture(scope="module")
def begun():
    return start(SMALL, DATA)


def test_the_actor_moves_once_in_so_many_updates(begun):
    state, batch, _ = begun
    moved = []
    for number in range(6):
        before = state.actor.policy.params
        state, _ = update(SMALL, state, batch, jax.random.key(number))
        pairs = zip(jax.tree.leaves(before), jax.tree.leaves(state.actor.policy.params), strict=True)
        moved.append(not all(np.array_equal(a, b) for a, b in pairs))
    assert moved == [False, False, True, False, False, True]


def test_seeds_side_by_side_compute_nothing_of_the_actor_where_none_learns(begun, monkeypatch):
    """And learn what they learn alone."""
    state, batch, _ = begun
    both = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    together = jax.jit(jax.vmap(SMALL.update, (0, None, 0)))
    for number in range(3):
        keys = jax.random.split(jax.random.key(number), 2)
        both, _ = together(both, batch, keys)
        state, _ = update(SMALL, state, batch, keys[1])
    for mine, alone in zip(jax.tree.leaves(both), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(mine[1], alone, rtol=1e-3, atol=1e-5)
    monkeypatch.setattr(REDQ, "learn_actor", marked(REDQ.learn_actor))
    assert not always(jax.vmap(lambda *given: SMALL.update(*given), (0, None, 0)), both, batch, keys)


def test_td_target_is_of_the_smallest_of_a_few_critics_drawn_anew(begun):
    """With all in the subset the smallest of all; with one, another in another update."""
    state, batch, _ = begun

    def target(algorithm, number):
        return float(update(algorithm, state, batch, jax.random.key(number))[1]["td_target"])

    def value(number):
        key = jax.random.fold_in(jax.random.key(number), 2)
        action, log_prob = state.actor.policy.params(batch["next_observations"]).sample_and_log_prob(key)
        return state.critic.target(batch["next_observations"], action) - log_prob

    rewards = batch["rewards"].mean()
    every = replace(SMALL, subset=5)
    np.testing.assert_allclose(target(every, 0), rewards + 0.99 * value(0).min(0).mean(), rtol=1e-4)
    one = replace(SMALL, subset=1)
    chosen = [np.abs(target(one, n) - rewards - 0.99 * value(n).mean(-1)).argmin() for n in range(12)]
    assert len(set(map(int, chosen))) > 2
    errors = [np.abs(target(one, n) - rewards - 0.99 * value(n).mean(-1)).min() for n in range(3)]
    np.testing.assert_allclose(errors, 0, atol=1e-4)


def test_critics_that_are_not_drawn_are_not_asked(begun):
    """In numbers of computations: td_target costs more of five than of one."""
    state, batch, _ = begun
    cost = [
        update.lower(replace(SMALL, subset=subset), state, batch, jax.random.key(0)).cost_analysis()["flops"]
        for subset in (1, 5)
    ]
    assert cost[0] < 0.95 * cost[1]


def test_the_actor_maximises_the_mean_of_all():
    values = jnp.array([[1.0, 5.0], [3.0, 0.0], [8.0, 1.0]])
    np.testing.assert_allclose(SMALL.actor_value(values), [4.0, 2.0])


def test_an_actor_that_would_learn_once_in_many_steps_of_the_environment_is_refused():
    """As with the defaults, 20 updates for one of the actor and one update a step."""
    how = {"steps": 40, "warmup": 20, "update_interval": 20, "log_every": 20, "progress": False}
    message = r"in policy_delay=20 updates.* utd_ratio=1.0.*; give utd_ratio=20 \(--utd-ratio 20\), or policy_delay=1"
    with pytest.raises(RunError, match=message):
        fit_online(REDQ(), "nowhere", **how)
    for delay, ratio in ((20, 20), (1, 0.5), (3, 5)):  # which are not, but for the environment
        with pytest.raises(ReverieError, match="nowhere"):
            fit_online(REDQ(policy_delay=delay), "nowhere", utd_ratio=ratio, **how)


def test_a_subset_larger_than_the_ensemble_is_refused():
    with pytest.raises(ReverieError, match="subset = 11 exceeds critics = 10"):
        REDQ(subset=11)
