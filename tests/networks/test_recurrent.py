"""The recurrent cell: its definition, sequences in pieces, and what it remembers."""

import jax
import jax.numpy as jnp
import numpy as np

from reverie.networks import LSTM

KEY = jax.random.key(0)
run = jax.jit(lambda net, *inputs: net.sequence(*inputs))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_step_is_the_definition():
    net, x = LSTM(KEY, 3, 4), jax.random.normal(KEY, (2, 3))
    hidden, cell = jax.random.normal(jax.random.key(1), (2, 2, 4))
    gates = np.asarray(x @ net.inside.weight + net.inside.bias + hidden @ net.recurrent.weight)
    enter, keep, new, leave = np.split(gates, 4, -1)
    expected = sigmoid(keep) * cell + sigmoid(enter) * np.tanh(new)
    out, state = net(x, (hidden, cell))
    np.testing.assert_allclose(state[1], expected, atol=1e-5)
    np.testing.assert_allclose(out, sigmoid(leave) * np.tanh(expected), atol=1e-5)
    np.testing.assert_array_equal(out, state[0])


def test_a_sequence_is_its_steps_and_may_be_cut():
    net, x = LSTM(KEY, 3, 4), jax.random.normal(KEY, (2, 5, 6, 3))
    out, last = run(net, x)
    assert out.shape == (2, 5, 6, 4)
    first, state = run(net, x[..., :2, :])
    second, end = run(net, x[..., 2:, :], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], -2), out, atol=1e-6)
    np.testing.assert_allclose(end[1], last[1], atol=1e-6)
    step, _ = net(x[..., 0, :], net.initial((2, 5)))
    np.testing.assert_allclose(step, out[..., 0, :], atol=1e-6)


def test_the_first_step_reaches_the_last_and_not_the_other_way():
    net, x = LSTM(KEY, 3, 4), jax.random.normal(KEY, (6, 3))
    slope = jax.jit(jax.jacobian(lambda x: net.sequence(x)[0]))(x)
    seen = np.abs(slope).max((1, 3)) > 0
    np.testing.assert_array_equal(seen, np.tri(6))
    assert np.all(np.isfinite(slope))
