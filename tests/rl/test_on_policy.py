"""What PPO is made of: advantages summed by hand, a clip beyond which nothing pulls, statistics that join."""

import jax
import jax.numpy as jnp
import numpy as np

from reverie.rl import Running, advantages, clipped_surrogate, minibatches, orthogonal_mlp


def test_advantages_end_at_a_terminal_and_are_continued_by_v_at_a_timeout():
    """Of two environments; the second's steps are those of one long episode."""
    rewards = jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    values = jnp.array([[0.5, 0.5], [0.25, 0.25], [1.0, 1.0], [2.0, 2.0]])
    after = jnp.array([[0.25, 0.25], [8.0, 1.0], [6.0, 2.0], [3.0, 3.0]])
    terminals = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    timeouts = jnp.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    g, t = 0.9, 0.8
    found = advantages(rewards, values, after, terminals, timeouts, discount=g, trace=t)

    last = 4 + g * 3 - 2
    cut = 3 + g * 6 - 1  # V of where the episode was cut, and nothing of what follows
    ended = 2 - 0.25  # the 8 is worth nothing
    first = 1 + g * 0.25 - 0.5 + g * t * ended
    np.testing.assert_allclose(found[:, 0], [first, ended, cut, last], rtol=1e-6)

    errors = np.array([1 + g * 0.25 - 0.5, 2 + g * 1 - 0.25, 3 + g * 2 - 1, last])
    sums = [sum((g * t) ** k * e for k, e in enumerate(errors[i:])) for i in range(4)]
    np.testing.assert_allclose(found[:, 1], sums, rtol=1e-6)


def test_with_a_trace_of_one_an_advantage_is_the_return_less_v():
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 6, 1)).astype(np.float32)
    after = np.append(values[1:], [[7.0]], 0)
    found = advantages(rewards, values, after, np.zeros((6, 1)), np.zeros((6, 1)), discount=0.9, trace=1.0)
    returns = [sum(0.9**k * r for k, r in enumerate(rewards[i:, 0])) + 0.9 ** (6 - i) * 7 for i in range(6)]
    np.testing.assert_allclose(found[:, 0], returns - values[:, 0], rtol=1e-5)


def test_beyond_the_clip_nothing_pulls_further_and_all_pulls_back():
    """The derivative by log ratio: -ratio A, but 0 where the ratio is past the clip in the advantage's direction."""
    ratio = jnp.array([1.5, 1.5, 0.5, 0.5, 1.1, 0.9, 1.0])
    advantage = jnp.array([2.0, -2.0, 2.0, -2.0, 2.0, 2.0, 2.0])

    def loss(log_ratio):
        return 7 * clipped_surrogate(log_ratio, advantage, 0.2)[0]

    slope = jax.grad(loss)(jnp.log(ratio))
    pulled = jnp.array([0, 1, 1, 0, 1, 1, 1])
    np.testing.assert_allclose(slope, -ratio * advantage * pulled, rtol=1e-6)
    metrics = clipped_surrogate(jnp.log(ratio), advantage, 0.2)[1]
    np.testing.assert_allclose(metrics["clip_fraction"], 4 / 7)
    np.testing.assert_allclose(metrics["approx_kl"], (ratio - 1 - jnp.log(ratio)).mean(), rtol=1e-5)


def test_running_statistics_are_those_of_all_that_was_seen():
    x = np.random.default_rng(0).normal(3, 2, (4, 5, 3)).astype(np.float32)
    running = Running.of(3)
    np.testing.assert_array_equal(running(x[0]), np.clip(x[0], -10, 10))
    for part in (x[:1], x[1:3], x[3]):
        running = running.joined(part)
    rows = x.reshape(-1, 3)
    np.testing.assert_allclose(running.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(running.std, rows.std(0), rtol=1e-5)
    np.testing.assert_allclose(running(1e6), 10)
    number = Running.of().joined(x)
    np.testing.assert_allclose([number.mean, number.std], [x.mean(), x.std()], rtol=1e-5)


def test_an_epoch_goes_through_every_row_once_and_leaves_out_what_fills_no_minibatch():
    def learn(counts, rows):
        return counts.at[rows].add(1), {"seen": rows.shape[0] * jnp.ones(())}

    for size, each in ((4, 12), (5, 10), (50, 12)):
        counts, metrics = minibatches(learn, jnp.zeros(12), jnp.arange(12), jax.random.key(0), epochs=3, size=size)
        assert counts.sum() == 3 * each
        assert counts.max() <= 3
        assert metrics["seen"] == min(size, 12)


def test_weights_are_orthogonal_and_the_last_ones_as_small_as_asked():
    net = orthogonal_mlp(jax.random.key(0), 3, 2, hidden=(8, 8), gain=0.01)
    for layer, gain in zip(net.layers, (2**0.5, 2**0.5, 0.01), strict=True):
        w = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
        np.testing.assert_allclose(w @ w.T, gain**2 * np.eye(len(w)), atol=1e-5)
        assert (layer.bias == 0).all()
