"""The transformers over a window and over steps: silent at the start, what sees what, their limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.errors import ReverieError
from reverie.networks import StepTransformer, WindowCritic, WindowTransformer
from reverie.networks.transformer import Block

KEY = jax.random.key(0)
apply = jax.jit(lambda net, *inputs: net(*inputs))


def normal(*shape, seed=1):
    return jax.random.normal(jax.random.key(seed), shape)


def woken(module):
    """The module with every array moved, so that nothing is silent any more."""
    leaves, structure = jax.tree.flatten(module)
    return structure.unflatten([leaf + 0.1 * normal(*leaf.shape, seed=i) for i, leaf in enumerate(leaves)])


@functools.cache
def transformer(**options):
    return WindowTransformer(KEY, 5, width=16, heads=2, depth=2, cond_dim=3, **options)


@functools.cache
def awake(**options):
    return woken(transformer(**options))


@pytest.mark.parametrize("horizon", [None, 8])
def test_the_output_is_zero_at_the_start(horizon):
    np.testing.assert_array_equal(apply(transformer(horizon=horizon), normal(2, 8, 5), 0.3), 0)


def test_a_block_is_the_identity_at_the_start():
    x = normal(2, 8, 16)
    block = Block(KEY, 16, 2)
    np.testing.assert_array_equal(apply(block, x, normal(2, 16)), x)
    assert not np.allclose(apply(woken(block), x, normal(2, 16)), x, atol=1e-2)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_leading_shape_and_a_shared_time(batch):
    net, x, cond = awake(), normal(*batch, 8, 5), normal(*batch, 3, seed=2)
    t = jnp.arange(np.prod(batch)).reshape(batch) / 6
    each = jax.jit(jax.vmap(net))(x.reshape(-1, 8, 5), t.ravel(), cond.reshape(-1, 3)).reshape(x.shape)
    np.testing.assert_allclose(apply(net, x, t, cond), each, atol=1e-5)
    np.testing.assert_allclose(apply(net, x, 0.5, cond), apply(net, x, jnp.full(batch, 0.5), cond), atol=1e-5)
    np.testing.assert_allclose(apply(net, x, 0.5), apply(net, x, 0.5, 0 * cond), atol=1e-5)
    assert not np.allclose(apply(net, x, 0.5), apply(net, x, 0.5, cond), atol=1e-3)
    assert not np.allclose(apply(net, x, 0.5), apply(net, x, 0.9), atol=1e-3)


def test_a_block_without_positions_permutes_with_its_steps():
    block, x, embedding = woken(Block(KEY, 16, 2)), normal(2, 8, 16), normal(2, 16)
    order = jnp.array([3, 0, 5, 7, 1, 4, 2, 6])
    np.testing.assert_allclose(apply(block, x[:, order], embedding), apply(block, x, embedding)[:, order], atol=1e-5)


def test_positions_tell_steps_apart():
    for net in (awake(), awake(horizon=8)):
        out = apply(net, jnp.ones((8, 5)), 0.3)
        assert np.abs(out - out[0]).max(-1)[1:].min() > 1e-3


def test_every_step_sees_every_other():
    x = normal(8, 5)
    changed = np.abs(apply(awake(), x.at[2].add(1.0), 0.3) - apply(awake(), x, 0.3))
    assert changed.max(-1).min() > 1e-5


def test_horizons():
    assert apply(awake(), normal(2, 13, 5), 0.3).shape == (2, 13, 5)
    assert apply(awake(horizon=8), normal(2, 6, 5), 0.3).shape == (2, 6, 5)
    with pytest.raises(ReverieError, match="positions for 8 steps and was given 9"):
        awake(horizon=8)(normal(2, 9, 5), 0.3)
    with pytest.raises(ReverieError, match="width 18 cannot be shared by 4 heads"):
        WindowTransformer(KEY, 5, width=18, heads=4)


def test_leaves_are_arrays_with_finite_derivatives():
    net, x, cond = awake(horizon=8), normal(2, 8, 5), normal(2, 3, seed=2)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(net))
    gradient = jax.jit(jax.grad(lambda net: jnp.square(net(x, 0.3, cond)).sum()))(net)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)) and leaf.any(), path


STEPS = {"timesteps": 50, "width": 16, "heads": 2, "depth": 2}
PARTS = [normal(4, 6, dim, seed=dim) for dim in (1, 3, 2)]
TIMES = jnp.arange(6) + jnp.array([0, 3, 20, 43])[:, None]


@functools.cache
def steps():
    """The outputs of (parts, timesteps, valid, key)."""
    net = StepTransformer(KEY, (1, 3, 2), rate=0.5, **STEPS)
    return jax.jit(lambda parts, times, valid=None, key=None: net(parts, times, valid=valid, key=key))


@pytest.mark.parametrize("part", range(3))
def test_a_part_sees_those_before_it_and_no_later_one(part):
    """What stands at a part, and after it, changes with it; nothing before does, to the last bit."""
    changed = [x.at[:, 3].add(1.0) if i == part else x for i, x in enumerate(PARTS)]
    moved = np.abs(steps()(changed, TIMES) - steps()(PARTS, TIMES)).max((0, -1)).ravel()
    at = 3 * 3 + part
    assert (moved[:at] == 0).all()
    assert (moved[at:] > 1e-4).all()


def test_steps_that_are_not_there_change_nothing():
    """Two steps of padding, with any numbers in it, before four: as the four alone."""
    alone = steps()([x[:, 2:] for x in PARTS], TIMES[:, 2:])
    for beyond in (0.0, 1e3, jnp.nan):
        padded = [x.at[:, :2].set(beyond) for x in PARTS]
        np.testing.assert_allclose(steps()(padded, TIMES, jnp.arange(6) >= 2)[:, 2:], alone, atol=1e-5)


def test_numbers_of_steps_are_told_apart_up_to_the_last_embedding():
    changed = np.abs(steps()(PARTS, TIMES) - steps()(PARTS, TIMES + 1))
    assert changed.max((1, 2, 3)).min() > 1e-3
    beyond = jnp.full((4, 6), 49)
    np.testing.assert_array_equal(steps()(PARTS, beyond), steps()(PARTS, beyond + 1000))


def test_tokens_before_the_steps_are_seen_by_all_and_are_what_they_were_embedded_as():
    net, before = StepTransformer(KEY, (1, 3, 2), **STEPS | {"depth": 1}), normal(5, 16, seed=7)
    tokens = (
        jnp.stack([embed(x) for embed, x in zip(net.embed, PARTS, strict=True)], -2) + net.times[TIMES][..., None, :]
    )
    rows = jnp.broadcast_to(before, (4, 5, 16))
    whole = net.transformer(net.norm(jnp.concatenate([rows, tokens.reshape(4, 18, 16)], 1)))
    found = net(PARTS, TIMES, before=before)
    np.testing.assert_allclose(found.reshape(4, 18, 16), whole[:, 5:], atol=1e-5)
    # Two steps of padding between the tokens and the first step change nothing.
    padded = net([x.at[:, :2].set(9.0) for x in PARTS], TIMES, before=before, valid=jnp.arange(6) >= 2)
    np.testing.assert_allclose(padded[:, 2:], net([x[:, 2:] for x in PARTS], TIMES[:, 2:], before=before), atol=1e-5)


def test_dropout_of_steps_needs_a_key():
    first, second, again = (steps()(PARTS, TIMES, None, jax.random.key(seed)) for seed in (0, 1, 0))
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(steps()(PARTS, TIMES), steps()(PARTS, TIMES))


def test_a_critic_of_windows_sees_every_row_and_their_order():
    critic, x = WindowCritic(KEY, 5, width=16, heads=2, depth=1), normal(2, 3, 8, 5)
    value = jax.jit(critic.__call__)
    values = value(x)
    assert values.shape == (2, 3)
    np.testing.assert_allclose(value(x[1]), values[1], atol=1e-5)
    for row in (0, 7):
        assert np.abs(value(x.at[..., row, :].add(1.0)) - values).min() > 1e-4
    order = jnp.array([0, 4, 2, 3, 1, 5, 7, 6])
    assert np.abs(value(x[..., order, :]) - values).min() > 1e-4
