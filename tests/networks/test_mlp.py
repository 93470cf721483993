"""Networks on vectors: sizes, leading shapes, conditions, dropout and ensembles."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.networks import (
    MLP,
    DenoisingMLP,
    LayerNormResNet,
    ResidualMLP,
    apply_ensemble,
    ensemble,
    mish,
    parameter_count,
)

KEY = jax.random.key(0)
DENOISERS = {
    "mlp": functools.partial(DenoisingMLP, hidden=(16, 16)),
    "layer-norm": functools.partial(DenoisingMLP, hidden=(16, 16), layer_norm=True),
    "ln-resnet": functools.partial(LayerNormResNet, width=16, blocks=2, time_dim=8),
    "residual": functools.partial(ResidualMLP, width=16, blocks=2, embed_dim=8),
}
denoisers = pytest.mark.parametrize("make", DENOISERS.values(), ids=DENOISERS)
apply = jax.jit(lambda net, *inputs: net(*inputs))


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def size(make, *sizes, **options):
    return parameter_count(jax.eval_shape(lambda key: make(key, *sizes, **options), KEY))


def dense(*sizes):
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def test_sizes_are_the_published_architectures():
    # The other implementation of Diffusion-QL at its own embedding of 64, and its critics with layer norm.
    assert size(DenoisingMLP, 3, 11, time_dim=64) == 169_155
    assert 2 * size(MLP, 14, 1, hidden=(256,) * 3, layer_norm=True) == 274_434
    assert size(DenoisingMLP, 3, 11) == dense(16, 32, 16) + dense(30, 256, 256, 256, 3)
    resnet = 32 + dense(64, 128, 128) + dense(3 + 11 + 128, 256) + 3 * (512 + dense(256, 1024, 256)) + dense(256, 3)
    assert size(LayerNormResNet, 3, 11) == resnet
    synther = 8 + dense(17, 128, 128) + dense(27, 128, 1024) + 6 * dense(1024, 1024) + dense(1024, 27)
    assert size(ResidualMLP, 27) == synther
    assert 6e6 < synther < 7e6


def test_mlp_is_its_definition():
    net, x = MLP(KEY, 3, 2, hidden=(8, 4), activation=jnp.tanh), normal(5, 3)
    h = x
    for layer in net.layers[:-1]:
        h = jnp.tanh(h @ layer.weight + layer.bias)
    np.testing.assert_allclose(net(x), h @ net.layers[-1].weight + net.layers[-1].bias, atol=1e-6)


def test_layer_norm_makes_an_mlp_blind_to_the_scale_of_its_first_layer():
    net, x = MLP(KEY, 3, 2, hidden=(64, 64), layer_norm=True), normal(5, 3)
    first = jax.tree.map(lambda leaf: 100 * leaf, net.layers[0])
    scaled = jax.tree.map(lambda leaf: leaf, net)
    object.__setattr__(scaled, "layers", (first, *net.layers[1:]))
    np.testing.assert_allclose(scaled(x), net(x), atol=1e-2)


@denoisers
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_leading_shape_and_a_shared_time(make, batch):
    net, x, cond = make(KEY, 4, 3), normal(*batch, 4), normal(*batch, 3, seed=2)
    t = jnp.arange(np.prod(batch)).reshape(batch) / 6
    out = apply(net, x, t, cond)
    each = jax.vmap(net)(x.reshape(-1, 4), t.ravel(), cond.reshape(-1, 3)).reshape(x.shape)
    np.testing.assert_allclose(out, each, atol=1e-5)
    np.testing.assert_allclose(apply(net, x, 0.5, cond), apply(net, x, jnp.full(batch, 0.5), cond), atol=1e-5)
    assert not np.allclose(apply(net, x, 0.5, cond), apply(net, x, 0.7, cond), atol=1e-5)
    assert not np.allclose(apply(net, x, 0.5, cond), apply(net, x, 0.5, -cond), atol=1e-5)


@denoisers
def test_without_a_condition(make):
    assert apply(make(KEY, 4), normal(5, 4), 0.5).shape == (5, 4)


@denoisers
def test_leaves_are_arrays_with_finite_derivatives(make):
    net, x, t = make(KEY, 4, 3), normal(5, 4), jnp.linspace(0.1, 0.9, 5)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(net))
    gradient = jax.jit(jax.grad(lambda net: jnp.square(net(x, t, normal(5, 3))).sum()))(net)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        frozen = "frequencies" in jax.tree_util.keystr(path) and isinstance(net, ResidualMLP)
        assert np.all(np.isfinite(leaf)) and bool(leaf.any()) != frozen, path


def test_residual_mlp_adds_the_time():
    """Blocks h + Linear(ReLU(h)) of zero weights leave the two linear layers before and the one after."""
    net, x = ResidualMLP(KEY, 4, width=16, blocks=2, embed_dim=8), normal(5, 4)
    blocks = jax.tree.map(jnp.zeros_like, net.blocks)
    object.__setattr__(net, "blocks", blocks)
    expected = net.last(jax.nn.relu(net.first(net.project(x) + net.time(0.3))))
    np.testing.assert_allclose(net(x, 0.3), expected, atol=1e-6)


def test_silent_blocks_leave_the_resnets_first_and_last_layer():
    net, x, cond = LayerNormResNet(KEY, 4, 3, width=16, blocks=2, time_dim=8), normal(5, 4), normal(5, 3)
    object.__setattr__(net, "blocks", jax.tree.map(jnp.zeros_like, net.blocks))
    time = jnp.broadcast_to(net.time(0.3), (5, 16))
    expected = net.last(mish(net.first(jnp.concatenate([x, cond, time], -1))))
    np.testing.assert_allclose(net(x, 0.3, cond), expected, atol=1e-6)


def test_dropout_needs_a_key():
    net = LayerNormResNet(KEY, 4, 3, width=64, blocks=2, time_dim=8, rate=0.5)
    x, cond = normal(6, 4), normal(6, 3, seed=2)
    call = jax.jit(lambda net, key: net(x, 0.5, cond, key=key))
    np.testing.assert_array_equal(call(net, None), call(net, None))
    first, second = call(net, jax.random.key(1)), call(net, jax.random.key(2))
    assert not np.allclose(first, second, atol=1e-3)
    assert not np.allclose(first, call(net, None), atol=1e-3)
    np.testing.assert_array_equal(first, call(net, jax.random.key(1)))


def test_an_ensemble_is_its_members():
    def make(key):
        return MLP(key, 3, 1, hidden=(8, 8), activation=mish)

    nets, x = ensemble(make, KEY, 4), normal(5, 3)
    together = apply_ensemble(nets, x)
    assert together.shape == (4, 5, 1)
    for i, key in enumerate(jax.random.split(KEY, 4)):
        np.testing.assert_allclose(together[i], make(key)(x), atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-2
