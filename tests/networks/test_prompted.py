"""The transformer of prompts: shapes, what broadcasts, what steers, its limits."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.networks import PromptTransformer

KEY = jax.random.key(0)
apply = jax.jit(lambda net, *inputs: net(*inputs))
dropped = jax.jit(lambda net, x, t, given, key: net(x, t, given, key=key))


@functools.cache
def transformer(sizes=(3,), **options):
    net = PromptTransformer(KEY, sizes, 4, [(5, 6), (1, 2)], width=8, heads=2, depth=1, **options)
    return eqx.tree_at(lambda net: net.steer.linear.weight, net, replace_fn=lambda x: x + 0.3)


def inputs(n=3, size=3):
    keys = jax.random.split(jax.random.key(1), 3)
    shapes = (n, 4, size), (n, 5, 6), (n, 1, 2)
    x, prompt, told = (jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
    return x, prompt, told


def test_what_is_given_and_the_time_broadcast_to_the_rows():
    x, prompt, told = inputs()
    whole = apply(transformer(), x, jnp.full(3, 0.4), (prompt, told))
    np.testing.assert_allclose(apply(transformer(), x, 0.4, (prompt, told)), whole, atol=1e-5)
    both = apply(transformer(), jnp.stack([x, 2 * x]), 0.4, (prompt, jnp.stack([told, told + 1])))
    np.testing.assert_allclose(both[0], whole, atol=1e-5)
    alone = apply(transformer(), 2 * x, 0.4, (prompt, told + 1))
    np.testing.assert_allclose(both[1], alone, atol=1e-5)


@pytest.mark.parametrize("sizes", [(3,), (1, 2)])
def test_each_part_of_a_row_has_a_token_and_every_token_sees_all_others(sizes):
    x, prompt, told = inputs()
    net = transformer(sizes)
    assert len(net.positions) == 1 + 5 + 1 + 4 * len(sizes)
    out = apply(net, x, 0.4, (prompt, told))
    assert out.shape == x.shape
    for other in ((x.at[:, -1].add(1.0), prompt, told), (x, prompt.at[:, -1].add(1.0), told), (x, prompt, told + 1)):
        moved = apply(net, other[0], 0.4, other[1:])
        assert (jnp.abs(moved[:, 0] - out[:, 0]).max(-1) > 1e-5).all()


def test_what_steers_does_so_beside_its_token():
    x, prompt, told = inputs()
    plain, led = transformer(), transformer(steering=(1,))
    assert jax.tree.structure(plain.given) == jax.tree.structure(led.given)
    assert np.abs(apply(plain, x, 0.4, (prompt, told)) - apply(led, x, 0.4, (prompt, told))).max() > 1e-4


def test_layers_drop_out_only_where_a_key_is_given():
    x, prompt, told = inputs()
    net, same = transformer(rate=0.5), transformer()
    np.testing.assert_array_equal(apply(net, x, 0.4, (prompt, told)), apply(same, x, 0.4, (prompt, told)))
    assert np.abs(dropped(net, x, 0.4, (prompt, told), KEY) - apply(net, x, 0.4, (prompt, told))).max() > 1e-3


def test_its_limits_are_said():
    x, prompt, told = inputs()
    with pytest.raises(ReverieError, match="learned positions for 11 steps and was given 12"):
        transformer()(jnp.concatenate([x, x[:, :1]], 1), 0.4, (prompt, told))
    with pytest.raises(ReverieError, match="width 7 has no place"):
        PromptTransformer(KEY, (3,), 4, [(5, 6)], width=7, heads=1)
    with pytest.raises(ReverieError, match="cannot be shared by 3 heads"):
        PromptTransformer(KEY, (3,), 4, [(5, 6)], width=8, heads=3)
