"""Layers, initial weights and embeddings against their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.networks import Fourier, LayerNorm, Linear, TimeMLP, dropout, mish, sinusoidal, xavier, zeros
from reverie.networks.layers import Draw, by_rows

KEY = jax.random.key(0)


def definition(x):
    return x * np.tanh(np.logaddexp(0, x))


def slope(x):
    """The derivative of x tanh(s(x)), s the softplus: tanh(s) + x (1 - tanh(s)²) s'."""
    factor, logistic = np.tanh(np.logaddexp(0, x)), np.exp(-np.logaddexp(0, -x))
    return factor + x * (1 - factor**2) * logistic


def test_mish_is_its_definition_with_its_derivative():
    x = np.concatenate([np.linspace(-30, 30, 6001), [-1e4, -500, -88, 44, 88, 89, 500, 1e4, 1e30]])
    np.testing.assert_allclose(jax.jit(mish)(x), definition(x), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.vmap(jax.grad(mish)))(x), slope(x), rtol=1e-5, atol=1e-6)


def test_mish_loses_nothing_for_very_negative_numbers():
    x = jnp.array([-10.0, -20.0, -40.0, -80.0])
    np.testing.assert_allclose(jax.jit(mish)(x), x * jnp.exp(x), rtol=1e-4)


def test_initial_weights_are_uniform_within_their_bounds():
    layer = Linear(KEY, 400, 100)
    for leaf in (layer.weight, layer.bias):
        assert 0.95 / 20 < np.abs(leaf).max() <= 1 / 20
        assert abs(leaf.mean()) < 4 / 20 / math.sqrt(3 * leaf.size)
    bound = math.sqrt(6 / 500)
    layer = Linear(KEY, 400, 100, init=xavier)
    assert 0.99 * bound < np.abs(layer.weight).max() <= bound
    np.testing.assert_allclose(layer.weight.std(), bound / math.sqrt(3), rtol=0.02)
    assert not layer.bias.any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(Linear(KEY, 4, 3, init=zeros)))


def test_a_draw_never_repeats_itself_and_crosses_its_vectors():
    draw = Draw(KEY)
    numbers = np.concatenate([draw(shape).ravel() for shape in [(3, 5), (20_000,), (7,), (2**16,), (100,)]])
    assert len(np.unique(numbers)) > 0.99 * len(numbers)
    assert -1 < numbers.min() < -0.999 < 0.999 < numbers.max() < 1
    normal = draw.normal((50_000,))
    np.testing.assert_allclose([normal.mean(), normal.std(), (normal**4).mean()], [0, 1, 3], atol=0.1)


def test_layer_norm_is_the_definition():
    norm = LayerNorm(6)
    norm = jax.tree.map(lambda a: a + 0.1 * jnp.arange(6), norm)
    x = np.asarray(5 + 3 * jax.random.normal(KEY, (4, 6)), np.float64)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected * norm.scale + norm.shift, atol=1e-5)


def test_dropout_keeps_the_mean_and_without_a_key_everything():
    x = jnp.ones(20_000)
    assert dropout(x, 0.1, None) is x
    dropped = dropout(x, 0.1, KEY)
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.9], rtol=1e-6)
    np.testing.assert_allclose((dropped == 0).mean(), 0.1, atol=0.01)


def test_sinusoidal_is_its_definition():
    t, k = np.array([0.0, 3.0, 19.0]), np.arange(4)
    angles = t[:, None] * 10_000.0 ** (-k / 3)
    np.testing.assert_allclose(sinusoidal(t, 8), np.concatenate([np.sin(angles), np.cos(angles)], -1), atol=1e-6)


def test_fourier_features_are_waves_and_only_learned_ones_learn():
    for learned in (False, True):
        embed = Fourier(KEY, 6, scale=0.2, learned=learned)
        angles = 2 * np.pi * 1.5 * np.asarray(embed.frequencies)
        np.testing.assert_allclose(embed(1.5), np.concatenate([np.sin(angles), np.cos(angles)]), atol=1e-6)
        gradient = jax.grad(lambda embed: embed(1.5).sum())(embed)
        assert bool(gradient.frequencies.any()) == learned


@pytest.mark.parametrize("raw", [False, True])
def test_time_mlp_takes_any_shape(raw):
    net = TimeMLP(KEY, Fourier(KEY, 6), 10, 4, raw=raw)
    t = jnp.linspace(0, 1, 6).reshape(2, 3)
    assert net(t).shape == (2, 3, 4)
    np.testing.assert_allclose(net(t)[1, 2], net(t[1, 2]), atol=1e-6)
    assert net.first.weight.shape == (6 + raw, 10)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3), (0, 3)])
def test_a_layer_by_rows_is_the_layer(lead):
    layer = Linear(KEY, 4, 5)
    x = jax.random.normal(jax.random.key(1), (*lead, 4))
    np.testing.assert_allclose(by_rows(layer, x), layer(x), rtol=1e-5, atol=1e-6)
