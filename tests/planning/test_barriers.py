"""Barriers as functions of a state, and their gradients through the units of a network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import CDF, Dataset, Gaussian, MinMax, Spec
from reverie.errors import ReverieError
from reverie.planning.barriers import BARRIERS, find_barrier, kinds_of, values_and_normals

RNG = np.random.default_rng(0)
DATA = Dataset.from_arrays(RNG.normal(size=(50, 3)) * [1, 2, 5], RNG.normal(size=(50, 1)), timeouts=np.arange(50) == 49)


def product(state):
    return state[0] * state[1] + state[2]


def measuring(names, spec):
    def states_of(rows):
        return spec.denormalise("observations", rows)

    return jax.jit(partial(values_and_normals, kinds_of(names), states_of))


@pytest.mark.parametrize("units", [MinMax, Gaussian, CDF])
def test_gradients_are_by_network_units_of_a_function_of_the_data(units):
    """By finite differences, of barriers whose parameters are each environment's own."""
    spec = Spec.fit(DATA, observations=units)
    rows = jnp.asarray(RNG.uniform(-0.6, 0.6, (2, 4, 3)), jnp.float32)
    names = ["disc", product, "disc", "upper:2", "ellipse", "half-plane"]
    told = {
        "disc": jnp.asarray(RNG.normal(size=(2, 2, 3)), jnp.float32),
        "upper:2": jnp.array([[[1.0]], [[2.0]]]),
        "ellipse": jnp.asarray(RNG.uniform(0.5, 1, size=(2, 1, 4)), jnp.float32),
        "half-plane": jnp.asarray(RNG.normal(size=(2, 1, 3)), jnp.float32),
    }
    measured = measuring(names, spec)
    values, normals = measured(told, rows)
    states = np.asarray(spec.denormalise("observations", rows))
    centre, radius = told["disc"][..., :2], told["disc"][..., 2]
    distances = np.linalg.norm(states[:, :, None, :2] - centre[:, None], axis=-1) - radius[:, None]
    np.testing.assert_allclose(values[..., :2], distances, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values[..., 2], product(np.moveaxis(states, -1, 0)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values[..., 3], told["upper:2"][:, :, 0] - states[..., 2], rtol=1e-4, atol=1e-5)
    step = 2e-4 if units is CDF else 1e-2
    for column in range(3):
        nudge = step * jnp.eye(3)[column]
        ahead, behind = (measured(told, rows + sign * nudge)[0] for sign in (1, -1))
        slope = (ahead - behind) / (2 * step)
        close = np.isclose(slope, normals[..., column], rtol=0.03, atol=0.05)
        assert close.mean() > (0.8 if units is CDF else 0.99)  # at the knots of CDF there are two slopes


@pytest.mark.parametrize("name", ["disc", "ellipse"])
def test_an_obstacle_is_convex_no_further_than_the_distance_and_steep_at_its_centre(name):
    parameters = jnp.array([0.3, -0.2, 0.5, 0.8][: len(BARRIERS[name].parameters)])
    value = jax.jit(jax.vmap(lambda state: BARRIERS[name].function(state, parameters)))
    a, b = RNG.normal(size=(2, 500, 2)).astype(np.float32)
    assert (value((a + b) / 2) <= (value(a) + value(b)) / 2 + 1e-5).all()
    assert (np.abs(value(a) - value(b)) <= np.linalg.norm(a - b, axis=1) + 1e-5).all()
    for place in (parameters[:2], parameters[:2] + 1e-9, parameters[:2] + jnp.array([0.0, 1e-4])):
        slope = jax.grad(lambda state: BARRIERS[name].function(state, parameters))(place)
        assert np.isfinite(slope).all() and 0.3 < np.linalg.norm(slope) < 1.5


def test_a_function_of_ones_own_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "my_barriers.py").write_text("def low(state):\n    return 1 - state[0]\nnumber = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_barrier("my_barriers:low").function(jnp.array([3.0]), None) == -2
    with pytest.raises(ReverieError, match="'my_barriers:number' is int; give a function"):
        find_barrier("my_barriers:number")
    with pytest.raises(ReverieError, match="'my_barriers:high' cannot be imported"):
        find_barrier("my_barriers:high")


def test_an_unknown_barrier_is_said():
    with pytest.raises(ReverieError, match="'disk' is unknown; choose one of disc, ellipse, half-plane, upper:ENTRY"):
        find_barrier("disk")
    assert find_barrier("lower:1").function(jnp.array([0.0, 3.0]), jnp.array([1.0])) == 2
