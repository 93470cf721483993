"""Q-chunking: one backup spans a chunk, what is not valid teaches nothing, and a chunk of one is plain Q-learning."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.data import Dataset, Spec
from reverie.policies import FQL, IFQL, QC, QCFQL

SMALL = {"hidden": (16,), "critic_hidden": (16,), "flow_steps": 2, "batch_size": 32}
SPEC = Spec(1, 1, -jnp.ones(1), jnp.ones(1), {})


def batch(length, n=4, **changed):
    rows = {
        "observations": jax.random.normal(jax.random.key(0), (n, 1)),
        "actions": jax.random.uniform(jax.random.key(1), (n, length)),
        "inside": jnp.ones((n, length)),
        "rewards": jnp.arange(n) * 1.0,
        "next_observations": jax.random.normal(jax.random.key(2), (n, 1)),
        "terminals": jnp.zeros(n),
        "valid": jnp.ones(n),
    }
    return rows | changed


def updated(algorithm, rows):
    state = algorithm.init(jax.random.key(0), SPEC)
    return jax.jit(lambda rows: algorithm.update(state, rows, jax.random.key(1)))(rows)


@pytest.mark.parametrize("kind", [QC, QCFQL])
def test_the_successor_is_discounted_by_as_many_steps_as_a_chunk_has(kind):
    rows = batch(3)
    metrics = [updated(kind(**SMALL, chunk_size=3, discount=d), rows)[1]["td_target"] for d in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(metrics[1] - metrics[0], 0.125 * (metrics[2] - metrics[0]), rtol=1e-4)


@pytest.mark.parametrize("kind", [QC, QCFQL])
def test_what_is_not_valid_does_not_move_the_critics(kind):
    algorithm = kind(**SMALL, chunk_size=2)
    valid = jnp.array([1.0, 1, 0, 0])
    one, other = (
        updated(algorithm, batch(2, valid=valid, rewards=jnp.array([1.0, 2, each, each])))[0].critic.online.params
        for each in (0.0, 50.0)
    )
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_actions_beyond_the_episode_s_end_do_not_teach_the_flow():
    """As targets; what the flow is shown has the whole chunk in it."""
    algorithm, inside = QC(**SMALL, chunk_size=2), jnp.array([[1.0, 1], [1, 0], [1, 0], [1, 1]])

    def loss(padding, inside):
        actions = batch(2)["actions"].at[1, 1].set(padding)
        rows = batch(2, actions=actions, inside=inside)
        return float(algorithm.flow_loss(lambda x, t, c: 0 * x, rows, jax.random.key(0)))

    assert loss(0.5, inside) == loss(9.0, inside)
    assert loss(0.5, jnp.ones((4, 2))) < loss(9.0, jnp.ones((4, 2)))


def test_every_action_inside_counts_alike():
    """An episode's last action, alone in its chunk, is one of the batch's and not as much as a whole chunk."""
    algorithm, key = QC(**SMALL, chunk_size=2), jax.random.key(0)

    def loss(inside):
        return float(algorithm.flow_loss(lambda x, t, c: 0 * x, batch(2, inside=jnp.asarray(inside)), key))

    one_by_one = [loss(np.eye(8)[i].reshape(4, 2)) for i in range(8)]
    np.testing.assert_allclose(sum(one_by_one), loss(np.ones((4, 2))), rtol=1e-5)


def test_flow_q_learning_over_chunks_of_one_is_flow_q_learning():
    """Of the weight that the authors' code of chunks has by default, which is ten times that of single steps."""
    rows = batch(1)
    plain = {name: x for name, x in rows.items() if name not in ("inside", "valid")}
    chunked, metrics = updated(QCFQL(**SMALL, chunk_size=1), rows)
    single, same = updated(FQL(**SMALL, alpha=100.0), plain)
    for mine, theirs in zip(jax.tree.leaves(chunked), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)
    assert metrics.keys() == same.keys()


def corridor(episodes=400, length=3) -> Dataset:
    """Steps of -1 or 1, both alike; the one reward, 1, is at the last step of an episode that always went to the right.
    Of the state the observation is the step alone, so that only a chunk says what was done before."""
    rng = np.random.default_rng(0)
    actions = rng.choice([-1.0, 1.0], (episodes, length))
    rewards = np.zeros((episodes, length))
    rewards[:, -1] = (actions > 0).all(1)
    steps = np.tile(np.arange(length), episodes)
    return Dataset.from_arrays(
        observations=steps[:, None] / length, actions=actions.reshape(-1, 1), rewards=rewards.ravel(),
        terminals=steps == length - 1, timeouts=np.zeros(len(steps), bool), action_low=-1.0, action_high=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def learned(optimised):
    sizes = {"hidden": (32, 32), "critic_hidden": (32, 32), "flow_steps": 4, "candidates": 4, "batch_size": 64}
    algorithm = QC(**sizes, chunk_size=3, tau=0.05, learning_rate=3e-3)
    with optimised():
        return reverie.fit(algorithm, corridor(), steps=800, progress=False)


def test_a_reward_that_a_whole_chunk_earns_is_found(learned):
    """One of 8 chunks is rewarded, and no single action tells which; the best by Q of many goes right in all steps."""
    state, spec = jax.tree.map(lambda x: x[0], learned.states), learned.spec
    algorithm = replace(learned.algorithm, candidates=64)
    chunk = algorithm.choose(state, algorithm.as_one(spec), jnp.zeros((50, 1)), jax.random.key(0))
    assert (np.asarray(chunk) > 0.2).all(1).mean() > 0.9
    chunks = jnp.array([[1.0, 1, 1], [-1, 1, 1], [1, 1, -1]])
    q = state.critic.online.params(jnp.zeros((3, 1)), chunks).mean(0)
    np.testing.assert_allclose(q, [1, 0, 0], atol=0.25)


def test_a_chunk_is_executed_to_its_end_whatever_is_seen(learned):
    state, spec = jax.tree.map(lambda x: x[0], learned.states), learned.spec
    carry, taken = learned.algorithm.reset(spec, 1, {}), []
    for step in range(3):
        seen = jnp.full((1, 1), 7.0 * step)
        action, carry = learned.algorithm.act(state, spec, seen, carry, {}, jax.random.key(step))
        taken.append(float(action[0, 0]))
    np.testing.assert_allclose(taken, np.asarray(carry.actions[0, :, 0]), atol=1e-6)


def test_ifql_takes_the_candidate_that_its_critics_like_best():
    algorithm = IFQL(**SMALL, candidates=8)
    state = algorithm.init(jax.random.key(0), SPEC)
    seen, key = jnp.ones((3, 1)), jax.random.key(1)
    candidates = algorithm.flow_candidates(state.flow.params, seen, key, 8, 1)
    values = state.critic.q.online.params(seen[:, None], candidates).min(0)
    chosen = algorithm.choose(state, SPEC, seen, key)
    np.testing.assert_allclose(chosen, candidates[np.arange(3), values.argmax(-1)])
