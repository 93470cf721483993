"""The U-Net over images: patches, sizes, conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.networks import ImageUNet
from reverie.networks.image_unet import doubled, from_patches, to_patches

NET = jax.jit(lambda key: ImageUNet(key, 3, cond_channels=1, width=8, multipliers=(1, 2)))(jax.random.key(0))
apply = jax.jit(lambda net, *inputs: net(*inputs))


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def test_patches_are_squares_of_neighbours_and_come_back():
    x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    patches = to_patches(x, 2)
    assert patches.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(patches[1, 2, 0].reshape(2, 2, 3), x[0, 2:, 4:])
    np.testing.assert_array_equal(from_patches(patches, 2), x)


def test_doubled_repeats_every_place():
    h = jnp.arange(4.0).reshape(2, 2, 1, 1)
    np.testing.assert_array_equal(doubled(h)[..., 0, 0], [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])


def test_any_leading_shape_and_a_time_for_each_image():
    x, t, cond = normal(2, 3, 8, 12, 3), jnp.arange(6.0).reshape(2, 3), normal(2, 3, 8, 12, 1, seed=2)
    out = apply(NET, x, t, cond)
    assert out.shape == x.shape
    for i in [(0, 0), (1, 2)]:
        np.testing.assert_allclose(apply(NET, x[i], t[i], cond[i]), out[i], atol=1e-5)
    shared = apply(NET, x, t[0, 2], cond)
    np.testing.assert_allclose(shared[0, 2], out[0, 2], atol=1e-5)
    assert not np.allclose(shared[1, 2], out[1, 2], atol=1e-3)


def test_no_condition_is_zeros_and_another_one_matters():
    x, cond, t = normal(8, 12, 3), jnp.zeros((8, 12, 1)), jnp.float32(1)
    without = apply(NET, x, t)
    np.testing.assert_allclose(without, apply(NET, x, t, cond), atol=1e-6)
    changed = np.abs(apply(NET, x, t, cond.at[0, 0].set(5.0)) - without)
    assert changed[:2, :2].max(-1).min() > 0.1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ReverieError, match=r"Images of 8 x 10 pixels do not fit this U-Net.* multiples of 4"):
        NET(normal(1, 8, 10, 3), jnp.float32(0))
    with pytest.raises(ReverieError, match="12 channels"):
        ImageUNet(jax.random.key(0), width=12)
