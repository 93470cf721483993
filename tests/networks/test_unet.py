"""The temporal U-Net and the value of a window: attention, sizes, conditions and derivatives."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.networks import TemporalUNet, WindowValue, parameter_count
from reverie.networks.unet import LinearAttention, ResidualBlock

KEY = jax.random.key(0)
apply = jax.jit(lambda net, *inputs: net(*inputs))


@functools.cache
def unet(**options):
    options = {"width": 8, "multipliers": (1, 2), **options}
    return jax.jit(lambda key: TemporalUNet(key, 5, **options))(KEY)


@functools.cache
def value_network():
    return jax.jit(lambda key: WindowValue(key, 5, 8, multipliers=(4,), cond_dim=3))(KEY)


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def test_attention_mixes_time_only_and_permutes_with_it():
    attention, x = LinearAttention(KEY, 16), normal(6, 3, 16)
    changed = np.abs(apply(attention, x.at[2, 1].add(normal(16, seed=2))) - apply(attention, x)).max(-1)
    assert np.all(changed[:, 1] > 1e-4)
    np.testing.assert_allclose(changed[:, [0, 2]], 0, atol=1e-6)
    order = jnp.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(apply(attention, x[order]), apply(attention, x)[order], atol=1e-5)


def test_attention_is_its_definition():
    attention, x = LinearAttention(KEY, 16, heads=1, head_dim=8), normal(6, 1, 16)
    q, k, v = np.split(np.asarray(attention.qkv(attention.norm(x)))[:, 0], 3, -1)
    context = np.exp(k).T @ v / np.exp(k).sum(0)[:, None]
    expected = x[:, 0] + attention.out(q @ context / np.sqrt(8))
    np.testing.assert_allclose(apply(attention, x)[:, 0], expected, atol=1e-5)


def conv_size(kernel, n_in, n_out):
    return (kernel * n_in + 1) * n_out


def block_size(kernel, n_in, n_out, embed):
    skip = conv_size(1, n_in, n_out) if n_in != n_out else 0
    norms = 4 * n_out
    return conv_size(kernel, n_in, n_out) + conv_size(kernel, n_out, n_out) + norms + conv_size(1, embed, n_out) + skip


def test_what_replaces_the_bottleneck_is_all_that_later_levels_see_of_it():
    net, x, shapes = unet(), normal(3, 8, 5), []

    def zero(features):
        shapes.append(features.shape)
        return jnp.zeros_like(features)

    replaced = jax.jit(lambda net: net(x, jnp.float32(1.0), None, zero))
    other = eqx.tree_at(lambda net: net.middle, net, replace_fn=lambda middle: jax.tree.map(lambda w: w + 1, middle))
    np.testing.assert_array_equal(replaced(net), replaced(other))
    assert shapes == [(4, 3, 16)]
    kept = jax.jit(lambda net: net(x, jnp.float32(1.0), None, lambda features: features))
    np.testing.assert_allclose(kept(net), apply(net, x, jnp.float32(1.0)), atol=1e-6)
    assert not np.allclose(kept(net), replaced(net))


def test_sizes_are_the_published_architectures():
    net = jax.eval_shape(lambda key: TemporalUNet(key, 14), KEY)
    assert parameter_count(net) == 3_956_302

    value = jax.eval_shape(lambda key: WindowValue(key, 14, 32), KEY)
    time = conv_size(1, 32, 128) + conv_size(1, 128, 32)
    levels = sum(
        block_size(5, a, b, 32) + block_size(5, b, b, 32) + conv_size(3, b, b)
        for a, b in [(14, 32), (32, 64), (64, 128), (128, 256)]
    )
    narrow = sum(block_size(5, a, b, 32) + conv_size(3, b, b) for a, b in [(256, 128), (128, 64)])
    head = conv_size(1, 64 + 32, 32) + conv_size(1, 32, 1)
    assert parameter_count(value) == time + levels + narrow + head


def test_any_leading_shape():
    x, t = normal(2, 3, 8, 5), jnp.arange(6.0).reshape(2, 3)
    for net, shape in [(unet(), x.shape), (value_network(), t.shape)]:
        out = apply(net, x, t)
        assert out.shape == shape
        for i in [(0, 0), (1, 2)]:
            np.testing.assert_allclose(apply(net, x[i], t[i]), out[i], atol=1e-5)


def test_a_scalar_time_is_a_batch_of_equal_times():
    x, cond = normal(4, 8, 5), normal(4, 3, seed=2)
    for net, inputs in [(unet(), ()), (unet(cond_dim=3), (cond,)), (value_network(), (cond,))]:
        at_seven = apply(net, x, 7.0, *inputs)
        np.testing.assert_allclose(at_seven, apply(net, x, jnp.full(4, 7.0), *inputs), atol=1e-5)
        assert not np.allclose(at_seven, apply(net, x, 8.0, *inputs), atol=1e-4)


def test_no_condition_is_the_zero_embedding():
    x, cond = normal(4, 8, 5), normal(4, 3, seed=2)
    for net in (unet(cond_dim=3), value_network()):
        without = apply(net, x, 7.0)
        np.testing.assert_allclose(without, apply(net, x, 7.0, 0 * cond), atol=1e-5)
        assert not np.allclose(without, apply(net, x, 7.0, cond), atol=1e-4)


def test_the_same_weights_serve_other_horizons():
    for horizon in (2, 8, 160):
        x = jax.ShapeDtypeStruct((3, horizon, 5), jnp.float32)
        assert jax.eval_shape(unet(attention=True), x, 7.0).shape == x.shape


@pytest.mark.parametrize(("horizon", "nearest"), [(30, 32), (33, 32), (1, 8), (13, 16), (0, 8)])
def test_a_horizon_that_cannot_be_halved_names_one_that_can(horizon, nearest):
    net = jax.eval_shape(lambda key: TemporalUNet(key, 5, width=8), KEY)
    x = jax.ShapeDtypeStruct((2, horizon, 5), jnp.float32)
    with pytest.raises(ReverieError, match=rf"horizon {horizon} .*nearest that would do is {nearest}\."):
        jax.eval_shape(lambda net, x: net(x, 0), net, x)


def test_wrong_sizes_are_named():
    with pytest.raises(ReverieError, match="12 channels"):
        jax.eval_shape(lambda key: TemporalUNet(key, 5, width=12), KEY)
    with pytest.raises(ReverieError, match="windows of 8 steps and was given one of 4"):
        value_network()(normal(2, 4, 5), 0)


def test_a_window_moved_by_the_coarsest_stride_gives_its_output_moved():
    """Zeros around a short event: group norm's statistics are those of the whole window, so they do not move."""
    net = unet(kernel=3)
    x = jnp.zeros((160, 5)).at[76:84].set(normal(8, 5))
    inside = slice(64, 96)
    still, moved = apply(net, x, 7.0), apply(net, jnp.roll(x, 2, 0), 7.0)
    np.testing.assert_allclose(jnp.roll(still, 2, 0)[inside], moved[inside], atol=1e-4)
    assert not np.allclose(still[inside], moved[inside], atol=1e-2)


def test_derivatives_are_finite_and_reach_every_parameter():
    x, t, cond = normal(4, 8, 5), jnp.arange(4), normal(4, 3, seed=2)
    gradient = jax.jit(jax.grad(lambda inputs: jnp.square(inputs[0](inputs[1], t, cond)).sum()))
    for net in (unet(cond_dim=3, attention=True), value_network()):
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient((net, x))):
            assert np.all(np.isfinite(leaf)), path
            assert np.abs(leaf).max() > 0, path


def test_a_narrow_value_has_a_gradient_everywhere_and_no_spikes():
    """At the width of 64 with groups of two channels, its last norms were signs: most gradients small, a few huge."""
    net = jax.jit(lambda key: WindowValue(key, 5, 16, width=16, multipliers=(1, 2, 4)))(KEY)
    gradients = jax.jit(jax.grad(lambda x: net(x, 0.0).sum()))(normal(512, 16, 5))
    sizes = np.sqrt(np.square(gradients).sum((1, 2)))
    assert sizes.max() < 20 * np.median(sizes)


def test_leaves_are_arrays_and_seeds_are_one_vmap():
    make = jax.jit(jax.vmap(lambda key: TemporalUNet(key, 5, width=8, multipliers=(1, 2))))
    nets, x = make(jax.random.split(KEY, 3)), normal(3, 2, 8, 5)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(nets))
    together = jax.jit(jax.vmap(lambda net, x: net(x, 0)))(nets, x)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], nets)
        np.testing.assert_allclose(together[i], apply(one, x[i], 0), atol=1e-5)


def test_film_starts_without_a_condition_and_learns_one():
    """At the start a U-Net with FiLM sees neither time nor condition."""
    net, x, cond = unet(film=True, cond_dim=3, multipliers=(1,)), normal(4, 8, 5), normal(4, 3, seed=2)
    silent = apply(net, x, 7.0)
    np.testing.assert_allclose(silent, apply(net, x, 9.0, cond), atol=1e-6)
    leaves, structure = jax.tree.flatten(net)
    moved = structure.unflatten([leaf + 0.1 * normal(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)])
    assert not np.allclose(apply(moved, x, 7.0, cond), apply(moved, x, 7.0, -cond), atol=1e-3)
    assert not np.allclose(apply(moved, x, 7.0, cond), apply(moved, x, 9.0, cond), atol=1e-3)
    np.testing.assert_allclose(apply(moved, x, 7.0), apply(moved, x, 7.0, 0 * cond), atol=1e-5)


def test_a_block_with_film_at_the_start_is_one_without_an_embedding():
    plain, film = ResidualBlock(KEY, 8, 8, 4, 3), ResidualBlock(KEY, 8, 8, 4, 3, film=True)
    object.__setattr__(plain, "embed", jax.tree.map(jnp.zeros_like, plain.embed))
    object.__setattr__(film, "second", plain.second)
    x, embedding = normal(6, 2, 8), normal(2, 4)
    np.testing.assert_allclose(apply(film, x, embedding), apply(plain, x, embedding), atol=1e-6)
