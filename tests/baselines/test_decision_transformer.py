"""Decision Transformer: what it is shown while it acts, what it can be asked for, and that it does what is asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reverie
from reverie.baselines import DecisionTransformer
from reverie.data import Dataset
from reverie.errors import ReverieWarning

LENGTH = 5
SMALL = DecisionTransformer(
    context=3, width=32, depth=1, timesteps=LENGTH, learning_rate=3e-3, warmup_updates=50, gradient_clip=1.0
)
act = jax.jit(lambda algorithm, *arguments: algorithm.act(*arguments), static_argnums=0)


def turning_back(episodes=300, seed=0) -> Dataset:
    """Five steps of 1: first k to the right, for a reward of 1 each, then to the left for nothing. Every k from 0 to 5
    is as frequent, and nothing in the positions tells it beforehand."""
    rights = np.random.default_rng(seed).permutation(np.arange(episodes) % (LENGTH + 1))
    actions = np.where(np.arange(LENGTH) < rights[:, None], 1.0, -1.0)
    positions = np.cumsum(actions, 1) - actions
    return Dataset.from_arrays(
        positions.reshape(-1, 1),
        0.9 * actions.reshape(-1, 1),
        (actions > 0).ravel(),
        timeouts=np.tile(np.arange(LENGTH) == LENGTH - 1, episodes),
        action_low=-1,
        action_high=1,
    )


@pytest.fixture(scope="module")
def turned(optimised):
    with optimised():
        return reverie.fit(SMALL, turning_back(), steps=500, progress=False)


def played(run, targets, wished=None, paid=1.0):
    """Episodes that are asked for these returns, and in the middle for those `wished`: actions `[n, 5]`, carries after
    every step."""
    algorithm, state, n = run.algorithm, run.state(0), len(targets)
    carry = algorithm.reset(run.spec, n, {"target_return": jnp.asarray(targets, jnp.float32)})
    position, reward, actions, carries = np.zeros((n, 1), np.float32), np.zeros(n, np.float32), [], []
    for step in range(LENGTH):
        if wished is not None and step == 2:
            carry = algorithm.rewish(carry, {"target_return": jnp.asarray(wished, jnp.float32)})
        action, carry = act(algorithm, state, run.spec, position, carry, {"reward": reward}, jax.random.key(0))
        right = np.asarray(action)[:, 0] > 0
        position, reward = position + np.where(right, 1, -1)[:, None], paid * right.astype(np.float32)
        actions.append(np.asarray(action)[:, 0])
        carries.append(carry)
    return np.stack(actions, 1), carries


def test_what_is_asked_for_is_received_exactly(turned):
    """Any return from 0 to 5, by turning back after so many steps; and without an error in the actions' size."""
    actions, _ = played(turned, range(LENGTH + 1))
    np.testing.assert_array_equal((actions > 0).sum(1), range(LENGTH + 1))
    assert np.abs(np.abs(actions) - 0.9).max() < 0.25


def test_whoever_receives_nothing_goes_on(turned):
    """Asked for 2, but paid nothing for its steps: it does not turn back after two."""
    actions, _ = played(turned, [2.0] * 6, paid=0.0)
    assert (actions[:, :3] > 0).all()


def test_another_return_may_be_asked_for_on_the_way(turned):
    """Asked for 5, and after two steps, which were paid for, for 3: one is left."""
    actions, carries = played(turned, [5.0] * 6, wished=[3.0] * 6)
    np.testing.assert_array_equal((actions > 0).sum(1), 3)
    to_go = turned.spec.denormalise("returns_to_go", carries[2].to_go["returns_to_go"][..., None])[:, :, 0]
    np.testing.assert_allclose(to_go, np.tile([5, 4, 1], (6, 1)), atol=1e-5)


def test_return_to_go_falls_by_the_reward(turned):
    """4 is asked for and half a reward paid for a step to the right: 4, 3.5, 3, ..., of the steps still remembered."""
    _, carries = played(turned, [4.0] * 6, paid=0.5)
    for step, carry in enumerate(carries):
        to_go = turned.spec.denormalise("returns_to_go", carry.to_go["returns_to_go"][..., None])[0, :, 0]
        expected = [4 - 0.5 * k for k in range(step + 1)][-SMALL.context :]
        np.testing.assert_allclose(to_go[-len(expected) :], expected, atol=1e-5)
        assert int(carry.step[0]) == step + 1


def test_feedback_before_the_first_step_is_of_no_episode():
    data = turning_back(6)
    spec = SMALL.prepare(data)[1]
    state = jax.jit(SMALL.init)(jax.random.key(0), spec)
    carry = SMALL.reset(spec, 2, {"target_return": jnp.array([3.0, 3.0])})
    _, carry = act(SMALL, state, spec, jnp.zeros((2, 1)), carry, {"reward": jnp.array([0.0, 7.0])}, jax.random.key(0))
    np.testing.assert_array_equal(carry.received["returns_to_go"], [0, 0])


def test_acting_is_the_network_over_the_whole_history(turned):
    """Step by step, with padding before the first, as in one pass over an episode's steps, of which each sees three."""
    actions, _ = played(turned, range(LENGTH + 1))
    rights = actions > 0
    received = np.cumsum(rights, 1) - rights
    to_go = turned.spec.normalise("returns_to_go", (np.arange(6)[:, None] - received)[..., None])[..., 0]
    moved = np.where(rights, 1, -1)
    positions = turned.spec.normalise("observations", (np.cumsum(moved, 1) - moved)[..., None])
    given = [jnp.asarray(x, jnp.float32) for x in (to_go, positions, actions[..., None])]
    net = jax.jit(lambda to_go, *given: turned.state(0).actor.params([to_go], *given))
    for start in range(LENGTH - SMALL.context + 1):
        rows = slice(start, start + SMALL.context)
        whole = net(*(x[:, rows] for x in given), jnp.arange(LENGTH)[rows])[..., 0]
        shown = slice(0 if start == 0 else -1, None)
        np.testing.assert_allclose(whole[:, shown], actions[:, rows][:, shown], atol=1e-5)


def test_padding_beyond_an_episodes_end_has_no_part_in_the_loss():
    """Windows near the end are short: other numbers in their padding give the same update."""
    algorithm = DecisionTransformer(context=4, width=8, depth=1, dropout=0.0)
    view, spec = algorithm.prepare(turning_back(6))
    state, batch = jax.jit(algorithm.init)(jax.random.key(0), spec), view.draw(jax.random.key(1), 16)
    assert 0 < batch["mask"].mean() < 1
    update = jax.jit(algorithm.update)
    others = {
        name: jnp.where(batch["mask"].reshape(16, 4, *[1] * (x.ndim - 2)) > 0, x, 1)
        for name, x in batch.items()
        if name not in ("mask", "index", "timesteps")
    }
    found, expected = (update(state, each, jax.random.key(2)) for each in (batch | others, batch))
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_returns_are_asked_for_in_the_range_of_the_data(turned):
    wish = turned.wishes["target_return"]
    assert (wish.low, wish.high, wish.default) == (0, 5, 5)
    with pytest.warns(ReverieWarning, match="target_return = 9 is outside what was seen in training, 0 to 5"):
        turned.policy().reset(target_return=9)
