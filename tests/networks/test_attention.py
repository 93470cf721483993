"""Attention and masks, by perturbing what must not be seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.networks import ChunkTransformer, CrossAttention, SelfAttention, Transformer
from reverie.networks.attention import attend, causal_mask

KEY = jax.random.key(0)
apply = jax.jit(lambda net, *inputs, **named: net(*inputs, **named))


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


@functools.cache
def transformer(**options):
    return Transformer(KEY, 8, heads=2, depth=2, **options)


def test_attention_is_its_definition():
    q, k, v = normal(1, 3, 1, 4), normal(1, 5, 1, 4, seed=2), normal(1, 5, 1, 4, seed=3)
    scores = np.exp(np.asarray(q[0, :, 0] @ k[0, :, 0].T) / 2)
    expected = scores / scores.sum(-1, keepdims=True) @ v[0, :, 0]
    np.testing.assert_allclose(attend(q, k, v)[0, :, 0], expected, atol=1e-5)
    scores = scores * np.tri(3, 5)
    expected = scores / scores.sum(-1, keepdims=True) @ v[0, :, 0]
    np.testing.assert_allclose(attend(q, k, v, mask=jnp.tri(3, 5, dtype=bool))[0, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("valid", [None, jnp.array([False, False, True, True, True, False])])
def test_a_causal_transformer_sees_no_later_token(valid):
    """Not even from a row that sees nothing at all, the first two with this validity."""
    net, x = transformer(causal=True), normal(2, 6, 8)
    run = jax.jit(lambda x: net(x, valid=valid))
    changed = np.abs(run(x.at[:, 4].add(normal(8, seed=2))) - run(x)).max((0, 2))
    np.testing.assert_array_equal(changed[:4], 0)
    assert changed[4] > 1e-3
    assert (changed[5] > 1e-3) or valid is not None


def test_without_causality_every_token_sees_every_other():
    x = normal(2, 6, 8)
    changed = np.abs(apply(transformer(), x.at[:, 4].add(normal(8, seed=2))) - apply(transformer(), x)).max(-1)
    assert changed.min() > 1e-4


@pytest.mark.parametrize("value", [100.0, jnp.nan])
def test_a_masked_token_changes_nothing(value):
    net, x = SelfAttention(KEY, 8, 2), normal(2, 6, 8)
    valid = jnp.ones((2, 6), bool).at[0, 1].set(False)
    out, other = apply(net, x, valid=valid), apply(net, x.at[0, 1].set(value), valid=valid)
    kept = jnp.array([0, 2, 3, 4, 5])
    np.testing.assert_array_equal(other[0, kept], out[0, kept])
    np.testing.assert_array_equal(other[1], out[1])
    np.testing.assert_allclose(out[0, kept], apply(net, x[0, kept]), atol=1e-5)


def test_a_token_that_sees_nothing_gets_the_bias_and_finite_derivatives():
    net, x = CrossAttention(KEY, 8, 2, 3), normal(4, 8)
    valid = jnp.zeros(5, bool)
    np.testing.assert_allclose(
        apply(net, x, normal(5, 3), valid=valid), jnp.broadcast_to(net.mix.bias, (4, 8)), atol=1e-6
    )
    loss = jax.jit(jax.grad(lambda net, x: jnp.square(net(x, normal(5, 3), valid=valid)).sum(), (0, 1)))
    gradient = loss(net, x)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_a_masked_part_of_a_context_changes_nothing():
    net, x, context = CrossAttention(KEY, 8, 2, 3), normal(2, 4, 8), normal(2, 5, 3, seed=2)
    valid = jnp.array([True, True, False, True, True])
    np.testing.assert_array_equal(
        apply(net, x, context.at[:, 2].add(9.0), valid=valid), apply(net, x, context, valid=valid)
    )
    mask = jnp.ones((4, 5), bool).at[1, 2].set(False)
    changed = apply(net, x, context.at[:, 2].add(9.0), mask=mask) - apply(net, x, context, mask=mask)
    np.testing.assert_array_equal(changed[:, 1], 0)
    assert np.abs(changed[:, jnp.array([0, 2, 3])]).max(-1).min() > 1e-3


def test_one_token_of_context_gives_every_query_the_same():
    net, x = CrossAttention(KEY, 8, 2, 3), normal(2, 4, 8)
    out = apply(net, x, normal(2, 1, 3))
    np.testing.assert_allclose(out, jnp.broadcast_to(out[:, :1], out.shape), atol=1e-6)
    np.testing.assert_allclose(apply(net, x[:, ::-1], normal(2, 1, 3)), out, atol=1e-6)


def test_the_order_of_a_context_does_not_matter_and_that_of_queries_moves_with_them():
    net, x, context = CrossAttention(KEY, 8, 2, 3), normal(2, 4, 8), normal(2, 5, 3, seed=2)
    out = apply(net, x, context)
    np.testing.assert_allclose(apply(net, x, context[:, ::-1]), out, atol=1e-5)
    np.testing.assert_allclose(apply(net, x[:, ::-1], context), out[:, ::-1], atol=1e-5)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_leading_shape(batch):
    net, x, context = transformer(causal=True, context_dim=3), normal(*batch, 4, 8), normal(*batch, 5, 3, seed=2)
    valid = jax.random.bernoulli(KEY, 0.7, (*batch, 4))
    seen = jax.random.bernoulli(KEY, 0.7, (*batch, 5))
    out = apply(net, x, context, valid=valid, context_valid=seen)
    each = jax.vmap(lambda x, c, v, s: net(x, c, valid=v, context_valid=s))
    flat = (x.reshape(-1, 4, 8), context.reshape(-1, 5, 3), valid.reshape(-1, 4), seen.reshape(-1, 5))
    np.testing.assert_allclose(out, jax.jit(each)(*flat).reshape(out.shape), atol=1e-5)
    shared = normal(5, 3)
    everywhere = jnp.broadcast_to(shared, (*batch, 5, 3))
    np.testing.assert_allclose(apply(net, x, shared), apply(net, x, everywhere), atol=1e-5)


def test_dropout_of_a_transformer_needs_a_key():
    net, x = transformer(rate=0.5), normal(4, 8)
    first, second, none = apply(net, x, key=KEY), apply(net, x, key=jax.random.key(1)), apply(net, x)
    assert not np.allclose(first, second, atol=1e-2)
    np.testing.assert_array_equal(none, apply(transformer(), x))


def test_a_width_that_cannot_be_shared_is_named():
    with pytest.raises(ReverieError, match="width 9 cannot be shared by 2 heads"):
        Transformer(KEY, 9, heads=2)
    with pytest.raises(ReverieError, match="width 9 cannot be shared by 2 heads"):
        CrossAttention(KEY, 9, 2, 3)


def test_a_causal_mask_is_lower_triangular():
    np.testing.assert_array_equal(causal_mask(3), [[1, 0, 0], [1, 1, 0], [1, 1, 1]])


@functools.cache
def chunk():
    return ChunkTransformer(KEY, 2, 6, width=8, heads=2, depth=1, cond_dim=3, cond_tokens=4)


def test_a_step_of_a_chunk_sees_the_past_and_the_conditions_until_then():
    x, cond = normal(2, 6, 2), normal(2, 4, 3, seed=2)
    out = apply(chunk(), x, 3.0, cond)
    later = np.abs(apply(chunk(), x.at[:, 3].add(1.0), 3.0, cond) - out).max((0, 2))
    np.testing.assert_array_equal(later > 1e-6, [0, 0, 0, 1, 1, 1])
    seen = np.abs(apply(chunk(), x, 3.0, cond.at[:, 2].add(1.0)) - out).max((0, 2))
    np.testing.assert_array_equal(seen > 1e-6, [0, 0, 1, 1, 1, 1])
    time = np.abs(apply(chunk(), x, 4.0, cond) - out).max((0, 2))
    assert time.min() > 1e-6


def test_a_chunk_has_any_leading_shape_a_shared_time_and_no_condition():
    x, cond, t = normal(2, 3, 6, 2), normal(2, 3, 4, 3, seed=2), jnp.arange(6.0).reshape(2, 3)
    out = apply(chunk(), x, t, cond)
    np.testing.assert_allclose(apply(chunk(), x[1, 2], t[1, 2], cond[1, 2]), out[1, 2], atol=1e-5)
    shared = apply(chunk(), x, 2.0, cond[0, 0])
    np.testing.assert_allclose(shared[0, 0], apply(chunk(), x[0, 0], 2.0, cond[0, 0]), atol=1e-5)
    assert apply(chunk(), x, 2.0).shape == x.shape
    with pytest.raises(ReverieError, match="positions for 6 steps and was given 7"):
        chunk()(normal(7, 2), 0.0)


def test_leaves_are_arrays_with_finite_derivatives():
    x, cond = normal(2, 6, 2), normal(2, 4, 3, seed=2)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(chunk()))
    gradient = jax.jit(jax.grad(lambda net: jnp.square(net(x, 3.0, cond)).sum()))(chunk())
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)) and leaf.any(), path
