"""Codebooks: the nearest code, where the gradients go, and how many codes are in use."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.networks import Codebook

KEY = jax.random.key(0)
BY_HAND = eqx.tree_at(lambda book: book.codes, Codebook(KEY, 3, 2), jnp.array([[0.0, 0.0], [1.0, 1.0], [4.0, 0.0]]))
X = jnp.array([[[0.4, 0.4], [0.6, 0.6]], [[2.0, 3.0], [3.0, -1.0]]])


def test_the_nearest_code_by_hand():
    quantised, indices, losses = BY_HAND(X)
    np.testing.assert_array_equal(indices, [[0, 1], [1, 2]])
    assert indices.dtype == jnp.int32
    np.testing.assert_allclose(quantised, [[[0, 0], [1, 1]], [[1, 1], [4, 0]]], atol=1e-6)
    np.testing.assert_allclose(losses.codebook, [[0.16, 0.16], [2.5, 1.0]], rtol=1e-5)
    np.testing.assert_array_equal(losses.codebook, losses.commitment)
    np.testing.assert_allclose(losses.total(0.5), 1.5 * losses.codebook)


def test_the_nearest_code_is_that_of_the_smallest_distance():
    book, x = Codebook(KEY, 50, 7), jax.random.normal(jax.random.key(1), (200, 7))
    distances = np.linalg.norm(np.asarray(x)[:, None] - np.asarray(book.codes), axis=-1)
    np.testing.assert_array_equal(jax.jit(lambda x: book(x)[1])(x), distances.argmin(1))


def test_the_gradient_passes_straight_through():
    weight = jnp.arange(8.0).reshape(2, 2, 2)
    to_x = jax.grad(lambda x: (weight * BY_HAND(x)[0]).sum())(X)
    np.testing.assert_array_equal(to_x, weight)
    to_codes = jax.grad(lambda book: (weight * book(X)[0]).sum())(BY_HAND).codes
    assert not to_codes.any()


def gradients(name):
    """Of the sum of a loss, to the vectors and to the codes."""
    to_x, to_book = jax.grad(lambda both: getattr(both[1](both[0])[2], name).sum())((X, BY_HAND))
    return to_x, to_book.codes


def test_the_commitment_reaches_the_encoder_alone():
    to_x, to_codes = gradients("commitment")
    np.testing.assert_allclose(to_x, X - BY_HAND.lookup(BY_HAND.nearest(X)), rtol=1e-6)  # d/dx of (x - e)² / 2
    assert not to_codes.any()


def test_the_codebook_s_loss_reaches_the_codes_alone():
    """Of which one that stands for nothing stays, and the others go to the mean of what they stand for."""
    to_x, to_codes = gradients("codebook")
    assert not to_x.any()
    np.testing.assert_allclose(to_codes, [[-0.4, -0.4], [-0.6, -1.6], [1.0, 1.0]], rtol=1e-5)


@pytest.mark.parametrize("indices, expected", [([0, 1, 2, 2, 1, 0], 3), ([1, 1, 1], 1), ([0, 2], 2)])
def test_perplexity_counts_the_codes_in_equal_use(indices, expected):
    assert float(BY_HAND.perplexity(jnp.array(indices))) == pytest.approx(expected, rel=1e-6)


def test_perplexity_of_unequal_use_is_the_entropy_s():
    share = np.array([0.5, 0.25, 0.25])
    got = float(BY_HAND.perplexity(jnp.array([[0, 0], [1, 2]])))
    assert got == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-6)
