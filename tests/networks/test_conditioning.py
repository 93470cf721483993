"""Conditions: trees as one vector, and scales and shifts that start as the identity."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.networks import (
    UMLP,
    AdaptiveNorm,
    DenoisingMLP,
    FiLM,
    LayerNorm,
    LayerNormResNet,
    ResidualMLP,
    TemporalUNet,
    WindowTransformer,
    flatten_condition,
    modulate,
)
from reverie.networks.mlp import ConditionedBlock

KEY = jax.random.key(0)
apply = jax.jit(lambda net, *inputs: net(*inputs))
DENOISERS = {
    "mlp": (functools.partial(DenoisingMLP, hidden=(8,)), (4,)),
    "ln-resnet": (functools.partial(LayerNormResNet, width=8, blocks=1, time_dim=8), (4,)),
    "residual": (functools.partial(ResidualMLP, width=8, blocks=1, embed_dim=8), (4,)),
    "umlp": (functools.partial(UMLP, widths=(8, 4), embed_dim=8), (4,)),
    "unet": (functools.partial(TemporalUNet, width=8, multipliers=(1,)), (4, 4)),
    "transformer": (functools.partial(WindowTransformer, width=8, heads=2, depth=1), (4, 4)),
}


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def woken(module):
    leaves, structure = jax.tree.flatten(module)
    return structure.unflatten([leaf + 0.1 * normal(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)])


def test_a_condition_lies_in_the_order_of_its_names():
    vector, scalar = normal(2, 3), normal(2, 1, seed=2)
    flat = flatten_condition({"b": vector, "a": scalar})
    np.testing.assert_array_equal(flat, jnp.concatenate([scalar, vector], -1))
    np.testing.assert_array_equal(
        flatten_condition((vector, {"z": scalar[0]}))[:, 3:], jnp.stack([scalar[0], scalar[0]])
    )
    assert flatten_condition(vector) is vector
    assert flatten_condition({"a": vector}) is vector
    assert flatten_condition(None) is None and flatten_condition({}) is None


@pytest.mark.parametrize(("make", "shape"), DENOISERS.values(), ids=DENOISERS)
def test_every_denoiser_takes_a_tree(make, shape):
    net, x, cond = woken(make(KEY, 4, cond_dim=3)), normal(2, *shape), normal(2, 3, seed=2)
    tree = {"return": cond[:, :1], "skill": cond[:, 1:]}
    np.testing.assert_array_equal(apply(net, x, 0.5, tree), apply(net, x, 0.5, cond))
    assert not np.allclose(apply(net, x, 0.5, tree), apply(net, x, 0.5, -cond), atol=1e-4)


def test_a_conditioned_blocks_layers_see_all_of_its_input():
    """SiLU takes the same value at -0.5 and at -2.5088, so that a block that began with one could not tell these apart
    but by its way around the layers, which is taken out here."""
    block = ConditionedBlock(KEY, 1, 4, 2)
    block = eqx.tree_at(lambda block: block.around.weight, block, jnp.zeros((1, 4)))
    here, there = (block(jnp.array([x]), jnp.zeros(2)) for x in (-0.5, -2.508836))
    assert np.abs(here - there).max() > 0.01


def test_film_starts_as_the_identity_and_scales_and_shifts_each_channel():
    x, embedding = normal(5, 2, 3), normal(2, 4, seed=2)
    film = FiLM(KEY, 4, 3)
    np.testing.assert_array_equal(film(x, embedding), x)
    film = functools.partial(apply, woken(film))
    at_zero = film(jnp.zeros((2, 3)), embedding)
    scale = film(jnp.ones((2, 3)), embedding) - at_zero
    np.testing.assert_allclose(film(x, embedding), x * scale + at_zero, atol=1e-5)
    assert np.abs(scale - 1).min() > 1e-4 and np.abs(at_zero).min() > 1e-4


def test_an_adaptive_norm_starts_as_a_layer_norm():
    x, norm = normal(2, 5, 8), AdaptiveNorm(KEY, 8, 2)
    scale, shift = norm(normal(2, 8))
    assert scale.shape == shift.shape == (2, 1, 8)
    np.testing.assert_allclose(modulate(x, scale, shift), LayerNorm(8)(x), atol=1e-6)
    scale, shift = woken(norm)(normal(2, 8))
    np.testing.assert_allclose(modulate(x, scale, shift), LayerNorm(8)(x) * (1 + scale) + shift, atol=1e-5)
