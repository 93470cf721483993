"""A choice among candidates, against plain numpy, for any number of leading axes."""

import jax
import numpy as np
import pytest

from reverie.rl import best, select, take

SHAPES = [(), (5,), (2, 3)]


def drawn(shape, n=7, action=2):
    rng = np.random.default_rng(0)
    return rng.normal(size=(*shape, n, action)).astype(np.float32), rng.normal(size=(*shape, n)).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_taken_are_the_candidates_of_those_numbers(shape):
    candidates, _ = drawn(shape)
    index = np.random.default_rng(1).integers(0, 7, shape)
    found = take(candidates, np.asarray(index))
    assert found.shape == (*shape, 2)
    for place in np.ndindex(*shape):
        np.testing.assert_array_equal(found[place], candidates[place][index[place]])


@pytest.mark.parametrize("shape", SHAPES)
def test_argmax_selects_the_candidate_of_the_largest_value(shape):
    candidates, values = drawn(shape)
    found = select(candidates, values)
    assert found.shape == (*shape, 2)
    for place in np.ndindex(*shape):
        np.testing.assert_array_equal(found[place], candidates[place][np.argmax(values[place])])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 3, 7])
def test_the_best_are_the_k_of_the_largest_values_the_best_first(shape, k):
    candidates, values = drawn(shape)
    found = best(candidates, values, k)
    assert found.shape == (*shape, k, 2)
    for place in np.ndindex(*shape):
        order = np.argsort(-values[place])[:k]
        np.testing.assert_array_equal(found[place], candidates[place][order])


def test_softmax_draws_in_proportion_to_the_exponential_of_the_values():
    """Of 40 000 draws every share is within 0.01 (four standard errors); a shift of all values changes no draw's
    distribution, and two keys draw differently."""
    values, n = np.float32([0.0, 1.0, -2.0, 0.5]), 40_000
    actions = np.broadcast_to(np.arange(4.0)[:, None], (n, 4, 1))
    expected = np.exp(values) / np.exp(values).sum()
    for shift in (0.0, 30.0):
        chosen = select(actions, np.broadcast_to(values + shift, (n, 4)), "softmax", jax.random.key(0))[:, 0]
        shares = np.bincount(np.asarray(chosen, int), minlength=4) / n
        np.testing.assert_allclose(shares, expected, atol=0.01)
    other = select(actions, np.broadcast_to(values, (n, 4)), "softmax", jax.random.key(1))[:, 0]
    assert (other != chosen).mean() > 0.3
