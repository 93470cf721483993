"""Inverses, constants, uniformity, and that every normaliser is a pytree of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import CDF, Gaussian, Identity, MinMax
from reverie.data.moments import Moments
from reverie.data.normalisers import first_apart

KINDS = [Identity, Gaussian, MinMax, CDF]
CONSTANT = np.float32(0.1)


def table(rows=5000):
    """Gaussian, skewed, clipped (with atoms at both ends), two-valued and constant columns."""
    draw = np.random.default_rng(0)
    columns = [
        draw.normal(3, 2, rows),
        draw.exponential(5, rows),
        np.clip(draw.normal(0, 1, rows), -1, 1),
        draw.integers(0, 2, rows),
        np.full(rows, CONSTANT),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_gives_the_data_back(kind):
    x = table()
    norm = kind.fit(x)
    back = np.asarray(norm.inverse(norm(x)))
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=2e-5)
    np.testing.assert_array_equal(back[:, 4], x[:, 4], "a constant must come back exactly")


@pytest.mark.parametrize("kind", [Gaussian, MinMax, CDF])
def test_a_constant_dimension_maps_to_zero(kind):
    np.testing.assert_array_equal(kind.fit(table())(table())[:, 4], 0)


@pytest.mark.parametrize("kind", [Gaussian, MinMax, CDF])
def test_a_constant_comes_back_from_any_network_output(kind):
    y = jnp.full(5, 0.7)
    assert kind.fit(table()).inverse(y)[4] == CONSTANT


@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_shape_jit_and_vmap_agree(kind):
    x = table(24)
    norm = kind.fit(table())
    flat = np.asarray(norm(x))
    np.testing.assert_array_equal(norm(x.reshape(2, 3, 4, 5)).reshape(24, 5), flat)
    np.testing.assert_allclose(norm(x[7]), flat[7], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda n, x: n(x))(norm, x), flat, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(norm)(x), flat, rtol=1e-6)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(norm))


def test_gaussian_has_the_population_statistics():
    norm = Gaussian.fit(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32))
    np.testing.assert_array_equal(norm.mean, [2, 5])
    np.testing.assert_array_equal(norm.std, [1, 0])
    np.testing.assert_array_equal(norm(np.array([4.0, 5.0])), [2, 0])
    np.testing.assert_array_equal(norm(np.array([4.0, 6.0])), [2, 1])


def test_gaussian_statistics_are_taken_in_double_precision():
    # In single precision the sum of either column loses every digit of its standard deviation.
    x = (1e4 + np.tile([[-0.5, 0.5], [0.5, -0.5]], (100_000, 1))).astype(np.float32)
    norm = Gaussian.fit(x)
    np.testing.assert_array_equal(norm.mean, [1e4, 1e4])
    np.testing.assert_array_equal(norm.std, [0.5, 0.5])


def test_minmax_meets_its_ends_and_does_not_clip():
    norm = MinMax.fit(np.array([[0.1], [0.7], [0.3]], np.float32))
    np.testing.assert_allclose(norm(np.array([[0.1], [0.7]], np.float32)), [[-1], [1]], atol=1e-6)
    np.testing.assert_allclose(norm(np.array([1.0])), [2.0], rtol=1e-6)
    np.testing.assert_allclose(norm.inverse(jnp.array([2.0])), [1.0], rtol=1e-6)


@pytest.mark.parametrize("fitted", [MinMax.fit, lambda x: Moments.of(x).normaliser(MinMax)], ids=["fit", "moments"])
def test_minmax_leaves_a_range_below_a_ten_thousandth_unscaled(fitted):
    """A sensor at rest, one that moves by a little more than that, and one that is still."""
    norm = fitted(np.array([[0.30000, 0.5, 2], [0.30006, 0.5002, 2]], np.float32))
    off = np.array([0.31003, 0.5, 2], np.float32)  # 0.01 from the first one's middle, where its range would be 333 off
    np.testing.assert_allclose(norm(off), [0.01, -1, 0], atol=1e-6)
    np.testing.assert_allclose(norm.inverse(norm(off)), off, atol=1e-6)
    assert norm.inverse(jnp.array([0.0, 0, 0.7]))[2] == 2


def test_minmax_of_bounds_is_of_them_however_near_they_are():
    norm = MinMax(jnp.array([-2e-5]), jnp.array([2e-5]))
    np.testing.assert_allclose(norm(np.array([1e-5])), [0.5], rtol=1e-6)


def test_cdf_of_five_values_by_hand():
    # Values 0, 1, 1, 1, 4: the middles of the jumps are 0.5, 2.5, 4.5 of 5 rows, hence -1, 0, 1.
    norm = CDF.fit(np.array([[0.0], [1.0], [1.0], [4.0], [1.0]], np.float32))
    x = np.array([[-9.0], [0.0], [0.5], [1.0], [2.5], [4.0], [9.0]], np.float32)
    np.testing.assert_allclose(norm(x)[:, 0], [-1, -1, -0.5, 0, 0.5, 1, 1], atol=1e-7)
    np.testing.assert_allclose(norm.inverse(norm(x))[:, 0], [0, 0, 0.5, 1, 2.5, 4, 4], atol=1e-6)


def test_cdf_of_constants_alone():
    norm = CDF.fit(np.full((4, 2), CONSTANT))
    np.testing.assert_array_equal(norm(np.array([0.1, 7.0], np.float32)), [0, 0])
    np.testing.assert_array_equal(norm.inverse(np.array([-1.0, 0.5], np.float32)), [CONSTANT, CONSTANT])


def test_cdf_makes_continuous_data_uniform():
    """Kolmogorov distance between the fitted image and the uniform law; the knots alone allow 1 / 2047."""
    norm = CDF.fit(table(20_000))
    y = np.sort(np.asarray(norm(table(20_000)))[:, :2], axis=0)
    uniform = (np.arange(20_000) + 0.5) / 20_000
    assert np.abs((y + 1) / 2 - uniform[:, None]).max() < 1e-3
    assert y.min() == -1 and y.max() == 1


def test_cdf_keeps_the_order_and_has_few_knots():
    norm = CDF.fit(table(20_000))
    assert norm.values.shape[1] <= CDF.KNOTS
    y = np.asarray(norm(np.sort(table(20_000), axis=0)))
    assert (np.diff(y, axis=0) >= 0).all()
    assert (np.diff(np.unique(y[:, 0])) > 0).all() and len(np.unique(y[:, 0])) > 19_000


def test_the_first_column_whose_units_differ_is_named():
    x = np.arange(12.0).reshape(4, 3)
    for kind in (Gaussian, MinMax, CDF):
        assert first_apart(kind.fit(x), kind.fit(x)) is None
        assert first_apart(kind.fit(x), kind.fit(x * [1, 2, 3])) == 1
    assert first_apart(Gaussian.fit(x), Identity()) == 0
