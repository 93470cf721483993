"""Projection onto linear inequalities: against another solver, in closed form, and where there is no solution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from reverie.diffusion.projection import RIDGE, nearest_point

solve = jax.jit(nearest_point)


def reference(normals, deficits):
    """The dual of one problem as non-negative least squares, in float64."""
    length = np.linalg.norm(normals.astype(float), axis=1)
    unit, missing = normals / length[:, None], deficits / length
    factor = cholesky(unit @ unit.T + RIDGE * (len(unit) > 1) * np.eye(len(unit)))
    multipliers, _ = nnls(factor, solve_triangular(factor.T, missing, lower=True), maxiter=10_000)
    return unit.T @ multipliers


def problems(constraints, dimensions, shift, n=100):
    rng = np.random.default_rng(constraints + dimensions)
    normals = rng.normal(size=(n, constraints, dimensions))
    return normals.astype(np.float32), (rng.normal(size=(n, constraints)) - shift).astype(np.float32)


@pytest.mark.parametrize(("constraints", "dimensions"), [(1, 2), (2, 2), (3, 2), (10, 2), (10, 4)])
@pytest.mark.parametrize("shift", [2.0, -1.0])
def test_random_problems_are_solved_as_by_another_solver(constraints, dimensions, shift):
    """Of the hard ones many contradict themselves: with two constraints and more in the plane their solution is that of
    least squared violation, and float32 finds it to some per cent."""
    normals, deficits = problems(constraints, dimensions, shift)
    found, needed = solve(jnp.zeros((len(normals), dimensions)), normals, deficits)
    wanted = np.stack([reference(*each) for each in zip(normals, deficits, strict=True)])
    np.testing.assert_array_equal(needed, (deficits > 0).any(1))
    feasible = (np.einsum("nkd,nd->nk", normals, wanted) > deficits - 1e-2).all(1)
    assert feasible.mean() > 0.9 or shift < 0
    scale = 1 + np.abs(wanted).max(1, keepdims=True)
    error = np.abs((found - wanted) / scale).max(1)
    assert error[feasible].max(initial=0) < 2e-3 and error.max() < 5e-2


def test_one_constraint_with_slack_is_its_closed_form():
    """y - x = d g / (|g|^2 + slack^2), where d is positive."""
    normals, deficits = problems(1, 3, 0.0)
    found, _ = solve(jnp.zeros((len(normals), 3)), normals, deficits, 2.0)
    size = np.square(normals).sum(-1) + 4
    np.testing.assert_allclose(found, np.maximum(deficits, 0) / size * normals[:, 0], rtol=1e-4, atol=1e-6)


def test_two_at_a_right_angle_are_met_each_for_itself():
    found, _ = solve(jnp.ones(3), jnp.array([[2.0, 0, 0], [0, 0.5, 0]]), jnp.array([1.0, 0.25]))
    np.testing.assert_allclose(found, [0.5, 0.5, 0], rtol=3e-4)


def test_what_cannot_be_is_met_half_way():
    """x >= 1 and -x >= 1."""
    found, _ = solve(jnp.zeros(1), jnp.array([[1.0], [-1.0]]), jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(found, [0], atol=1e-3)
    found, _ = solve(jnp.zeros(1), jnp.array([[1.0], [-1.0]]), jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(found, [-1], atol=1e-2)


@pytest.mark.parametrize("constraints", [1, 4])
def test_a_normal_of_length_0_is_no_constraint(constraints):
    normals = jnp.zeros((constraints, 2)).at[-1].set(jnp.array([0.0, 1.0]) * (constraints > 1))
    found, needed = solve(jnp.zeros(2), normals, jnp.ones(constraints))
    np.testing.assert_allclose(found, [0, float(constraints > 1)], rtol=3e-4)
    assert bool(needed) == (constraints > 1)
