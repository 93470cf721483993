"""Convolutions and group norm, over time and over images, against XLA's and the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.networks.convolution import Conv, GroupNorm, ImageConv, UpConv

KEY = jax.random.key(0)
DIMENSIONS = ("HNC", "HIO", "HNC")

apply = jax.jit(lambda net, *inputs: net(*inputs))


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("length", [1, 2, 4, 7, 32])
@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (1, 1), (3, 2)])
def test_convolution_is_xlas(kernel, stride, length):
    conv, x = Conv(KEY, 6, 4, kernel, stride=stride), normal(length, 3, 6)
    padding = [(kernel // 2, kernel // 2)]
    expected = jax.lax.conv_general_dilated(x, conv.weight, (stride,), padding, dimension_numbers=DIMENSIONS)
    np.testing.assert_allclose(apply(conv, x), expected + conv.bias, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_transposed_convolution_is_xlas(length):
    conv, x = UpConv(KEY, 6), normal(length, 3, 6)
    # PyTorch's weight of output 2i - 1 + j is weight[j]; XLA correlates, so its kernel is the reverse.
    expected = jax.lax.conv_transpose(x, conv.weight[::-1], (2,), [(2, 2)], dimension_numbers=DIMENSIONS)
    np.testing.assert_allclose(apply(conv, x), expected + conv.bias, atol=1e-5)


def test_group_norm_is_the_definition():
    norm, x = GroupNorm(24), np.asarray(3 + 2 * normal(6, 4, 24))
    norm = jax.tree.map(lambda a: a + 0.1 * jnp.arange(24), norm)
    groups = x.astype(np.float64).reshape(6, 4, 8, 3)
    mean, variance = groups.mean((0, 3), keepdims=True), groups.var((0, 3), keepdims=True)
    expected = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape) * norm.scale + norm.shift
    np.testing.assert_allclose(apply(norm, x), expected, atol=1e-5)


def test_group_norm_survives_a_large_mean():
    norm, x = GroupNorm(128), normal(8, 2, 128)
    np.testing.assert_allclose(apply(norm, x + 1000), apply(norm, x), atol=1e-3)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2)])
def test_convolution_of_an_image_is_xlas(kernel, stride):
    conv, x = ImageConv(KEY, 3, 4, kernel, stride=stride), normal(7, 6, 2, 3)
    padding = [(kernel // 2, kernel // 2)] * 2
    names = ("HWNC", "HWIO", "HWNC")
    expected = jax.lax.conv_general_dilated(x, conv.weight, (stride, stride), padding, dimension_numbers=names)
    np.testing.assert_allclose(apply(conv, x), expected + conv.bias, atol=1e-5)


def test_group_norm_of_an_image_is_that_of_its_places_in_a_row():
    norm, x = GroupNorm(16), 3 + 2 * normal(4, 5, 2, 16)
    row = apply(norm, x.reshape(20, 2, 16))
    np.testing.assert_allclose(apply(norm, x).reshape(20, 2, 16), row, atol=1e-5)
    np.testing.assert_allclose(apply(norm, 5 * x + 7), apply(norm, x), atol=1e-4)
