"""A function without random primitives, interior padding and gathers of several kinds gives the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from reverie.deploy.plain import RULES, plain

KEY = jnp.array([3, 2**31 + 5], jnp.uint32)


def primitives(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for value in eqn.params.values():
            for each in value if isinstance(value, (tuple, list)) else [value]:
                if hasattr(each, "jaxpr") or hasattr(each, "eqns"):
                    yield from primitives(getattr(each, "jaxpr", each))


def nested(key):
    """Draws in a loop, in a branch, and in a loop of unknown length."""

    def step(key, row):
        key, now = jax.random.split(key)
        return key, row + jax.random.normal(now, (2,))

    key, rows = lax.scan(step, key, jnp.ones((3, 2)))
    drawn = lax.cond(rows[0, 0] > 0, lambda k: jax.random.uniform(k), lambda k: 2 + jax.random.uniform(k), key)
    last = lax.while_loop(lambda x: x[0] < 3, lambda x: (x[0] + 1, jax.random.fold_in(x[1], x[0])), (0, key))
    return rows, drawn, last[1]


DRAWS = {
    "normal": lambda key: jax.random.normal(key, (5, 2)),
    "uniform": lambda key: jax.random.uniform(key, (3,), minval=-2, maxval=4),
    "categorical": lambda key: jax.random.categorical(key, jnp.log(jnp.arange(1.0, 9.0)), shape=(7,)),
    "integers": lambda key: jax.random.randint(key, (9,), -3, 1000),
    "several keys": lambda key: jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, 7), (3,)))(
        jax.random.split(key, 4)
    ),
    "a key of its own": lambda key: jax.random.normal(jax.random.split(jax.random.key(5))[1]) + key[0],
    "nested": nested,
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_numbers_are_those_of_jax(name):
    rewritten = plain(DRAWS[name])
    left = set(primitives(jax.make_jaxpr(rewritten)(KEY).jaxpr))
    assert not [each for each in left if each.startswith(("random_", "threefry"))]
    for expected, found in zip(*map(jax.tree.leaves, (DRAWS[name](KEY), jax.jit(rewritten)(KEY))), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=3e-7)


def test_bits_are_exact():
    for count in (1, 6, 7):
        rewritten = jax.jit(plain(lambda key, count=count: jax.random.bits(key, (count,))))
        np.testing.assert_array_equal(rewritten(KEY), jax.random.bits(KEY, (count,)))


X = jnp.arange(60.0).reshape(3, 4, 5)
AT = jnp.array([2, 0, 1])
SAME = {
    "rows": lambda x: x[AT],
    "an axis in the middle": lambda x: x[:, AT],
    "pairs": lambda x: x[AT, AT + 1],
    "pairs around an axis": lambda x: x[AT, :, AT],
    "along": lambda x: jnp.take_along_axis(x, jnp.ones((3, 2, 5), int), 1),
    "batched": lambda x: jax.vmap(lambda row, i: row[i])(x, AT),
    "slices": lambda x: jax.vmap(lambda row, i: lax.dynamic_slice(row, (i, 0), (2, 3)))(x, AT),
    "outside": lambda x: x.at[jnp.array([1, 7, -1])].get(mode="fill"),
    "clipped": lambda x: x.at[jnp.array([1, 7])].get(mode="clip"),
    "whole numbers outside": lambda x: x.astype(int).at[jnp.array([1, 7])].get(mode="fill"),
    "room inside": lambda x: lax.pad(x, -1.0, ((1, 2, 1), (0, 0, 0), (2, 0, 2))),
    "cut": lambda x: lax.pad(x, -1.0, ((-1, 1, 1), (0, -2, 0), (0, 0, 0))),
    "one of two truths": lambda x: lax.select(x > 30, x > 40, x < 20),
    "one of two unsigned": lambda x: lax.select(x > 30, x.astype(jnp.uint32) + jnp.uint32(2**31), x.astype(jnp.uint32)),
    "from bits": lambda x: lax.bitcast_convert_type(lax.bitcast_convert_type(x - 30.5, jnp.uint32), jnp.float32),
}


@pytest.mark.parametrize("name", SAME)
def test_rewritten_is_the_same(name):
    np.testing.assert_array_equal(jax.jit(plain(SAME[name]))(X), jax.jit(SAME[name])(X))


def test_a_rule_is_of_what_jax_has():
    """A primitive's name that JAX changed would pass by its rule."""
    left = set(primitives(jax.make_jaxpr(jax.jit(nested))(KEY).jaxpr))
    assert {"jit", "scan", "while", "cond", "random_bits", "random_split", "random_fold_in"} <= left & set(RULES)
