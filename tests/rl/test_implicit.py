"""The statistics that implicit losses have as their minimum, and the policies that they imply, for known values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.baselines import XQL
from reverie.data import Spec
from reverie.errors import ReverieError
from reverie.policies import IDQL, IFQL
from reverie.rl import IMPLICIT_LOSSES, ChosenStatistic

Q = jnp.array([-1.0, 0.2, 0.5, 1.5, 3.0])
WEIGHTS = jnp.array([0.1, 0.4, 0.2, 0.2, 0.1])


def minimiser(name, p, weights=None):
    """The V that minimises E loss(Q - V), by bisection on the slope, which rises in V."""
    weights = jnp.full(len(Q), 1 / len(Q)) if weights is None else weights

    @jax.jit
    @jax.grad
    def slope(v):
        return weights @ IMPLICIT_LOSSES[name].loss(Q - v, p)

    low, high = float(Q.min()), float(Q.max())
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2


def test_expectile_is_the_mean_at_a_half_and_tends_to_the_maximum():
    """At p, V = sum w Q / sum w with w = p above V and 1 - p below; so the gap to the maximum is of order 1 - p."""
    assert minimiser("expectile", 0.5) == pytest.approx(float(Q.mean()), abs=1e-5)
    assert minimiser("expectile", 0.5, WEIGHTS) == pytest.approx(float(WEIGHTS @ Q), abs=1e-5)
    values = [minimiser("expectile", p) for p in (0.1, 0.5, 0.7, 0.9, 0.99, 0.9999)]
    assert values == sorted(values)
    below = float((Q.max() - Q).sum())
    for p in (0.99, 0.9999):
        gap = 3.0 - minimiser("expectile", p)
        assert gap == pytest.approx((1 - p) / p * below, rel=0.05)


def test_quantile_is_the_median_at_a_half_and_the_quantile_elsewhere():
    assert minimiser("quantile", 0.5) == pytest.approx(0.5, abs=1e-5)
    assert minimiser("quantile", 0.7) == pytest.approx(1.5, abs=1e-5)  # more than 3 of 5 values lie below it
    assert minimiser("quantile", 0.99) == pytest.approx(3.0, abs=1e-5)
    assert minimiser("quantile", 0.45, WEIGHTS) == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.5, 2.0, 5.0])
def test_exponential_is_the_soft_maximum(p):
    """log E exp(p Q) / p, exactly as long as p (Q - V) stays below 7."""
    expected = float(jnp.log(WEIGHTS @ jnp.exp(p * Q)) / p)
    assert p * (3.0 - expected) < 7
    assert minimiser("exponential", p, WEIGHTS) == pytest.approx(expected, abs=1e-4)


def test_exponential_goes_on_by_its_tangent():
    """Beyond p u = 7 it neither overflows nor bends, and at 7 nothing jumps."""
    loss = IMPLICIT_LOSSES["exponential"].loss
    slope = jax.vmap(jax.grad(lambda u: loss(u, 1.0)))(jnp.array([6.9999, 7.0001, 50.0, 1e6]))
    np.testing.assert_allclose(slope, np.exp(7) - 1, rtol=1e-3)
    assert loss(7.0001, 1.0) - loss(6.9999, 1.0) == pytest.approx(0.0002 * np.exp(7), rel=0.05)
    assert jnp.isfinite(loss(1e6, 1.0))


@pytest.mark.parametrize("name, p", [("expectile", 0.7), ("quantile", 0.7), ("exponential", 0.5), ("exponential", 2.0)])
def test_weights_are_the_slope_over_the_distance(name, p):
    """|f'(u)| / |u| of IDQL's theorem 4.1, by automatic differentiation; positive and finite at 0 as well."""
    u = jnp.array([-20.0, -3.0, -0.5, -0.01, 0.01, 0.5, 3.0, 20.0])
    loss, weight = IMPLICIT_LOSSES[name]
    slope = jax.vmap(jax.grad(lambda u: loss(u, p)))(u)
    if name == "expectile":
        slope = slope / 2  # the weight's scale means nothing, and |f'(u)| / |u| = 2 p or 2 (1 - p)
    np.testing.assert_allclose(weight(u, p), jnp.abs(slope / u), rtol=2e-4)
    assert 0 < weight(0.0, p) < jnp.inf


@pytest.mark.parametrize("name, p", [("expectile", 0.7), ("expectile", 0.95), ("exponential", 0.5), ("exponential", 2)])
def test_v_is_the_value_of_the_policy_that_the_weights_imply(name, p):
    """IDQL's theorem 4.1: V = E[w(Q - V) Q] / E[w(Q - V)]."""
    v = minimiser(name, p, WEIGHTS)
    policy = WEIGHTS * IMPLICIT_LOSSES[name].weight(Q - v, p)
    assert float(policy @ Q / policy.sum()) == pytest.approx(v, abs=1e-3)


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"expectile": 0.0}, "expectile = 0.0, but it must be a number from 1e-06 to 0.999999"),
        ({"expectile": 1.0}, "expectile = 1.0, but it must be a number from 1e-06 to 0.999999"),
        (
            {"expectile": 1.5, "implicit_loss": "quantile"},
            "expectile = 1.5, but it must be a number from 1e-06 to 0.999999",
        ),
        ({"beta": 0.0, "implicit_loss": "exponential"}, "beta = 0.0, but it must be a number from 1e-06"),
        ({"implicit_loss": "median"}, "implicit_loss 'median' is unknown; choose one of expectile, quantile"),
    ],
)
def test_parameters_without_a_statistic_are_refused(fields, sentence):
    with pytest.raises(ReverieError, match=sentence):
        ChosenStatistic(**fields)


def test_beta_is_a_temperature_and_the_loss_takes_its_inverse():
    """Which may exceed one; the expectile is not asked then, and beta is not elsewhere."""
    assert ChosenStatistic(implicit_loss="exponential", beta=0.2, expectile=0.9).statistic == 5
    assert ChosenStatistic(implicit_loss="quantile", beta=0.2, expectile=0.9).statistic == 0.9
    assert ChosenStatistic(beta=0.2, expectile=0.8).statistic == 0.8


@pytest.mark.parametrize(("algorithm", "normed"), [(IFQL(), 4), (XQL(critic_layer_norm=False), 2), (IDQL(), 0)])
def test_v_has_layer_norm_where_a_paper_s_code_has_it(algorithm, normed):
    """IFQL's and XQL's, in front of every hidden layer's activation; not IDQL's, as IQL's."""
    spec = Spec(3, 2, -jnp.ones(2), jnp.ones(2), {})
    v = jax.eval_shape(lambda key: algorithm.init_implicit(key, spec).v.params, jax.random.key(0))
    assert len(v.norms) == normed
