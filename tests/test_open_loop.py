"""The recipe of compounding error: what it measures, where that is known."""

import importlib.util
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Spec
from reverie.models.ensemble import Ensemble

found = importlib.util.spec_from_file_location("open_loop", Path(__file__).parents[1] / "recipes" / "open_loop.py")
assert found is not None
assert found.loader is not None
open_loop = importlib.util.module_from_spec(found)
found.loader.exec_module(open_loop)

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def data():
    """Twenty episodes of ten steps; the state of an episode is its number and the step, and never repeats."""
    states = np.stack([np.repeat(np.arange(20.0), 10), np.tile(np.arange(10.0), 20)], 1)
    actions = np.random.default_rng(0).uniform(-1, 1, (200, 1))
    return Dataset.from_arrays(states, actions, np.arange(200), np.zeros(200), np.arange(200) % 10 == 9)


def test_an_episode_is_in_one_part_only():
    seen, unseen = open_loop.parted(data(), 0.15)
    assert (len(seen.episodes), len(unseen.episodes)) == (17, 3)
    assert not {*seen.observations[:, 0]} & {*unseen.observations[:, 0]}
    np.testing.assert_array_equal(unseen.observations[:, 1], np.tile(np.arange(10), 3))


def test_errors_are_root_mean_squares_in_standard_deviations():
    truth = jnp.zeros((3, 2, 2))
    made = truth.at[:, 1, 0].set(jnp.array([1.0, 2.0, 3.0]))
    summary = open_loop.summary(made, truth, jnp.array([2.0, 5.0]))
    np.testing.assert_allclose(summary["median"], [0, 1 / np.sqrt(2)], rtol=1e-6)
    np.testing.assert_allclose(summary["low"], [0, 0.75 / np.sqrt(2)], rtol=1e-6)
    np.testing.assert_allclose(summary["high"], [0, 1.25 / np.sqrt(2)], rtol=1e-6)


def test_an_ensemble_steps_from_its_own_predictions():
    """Two members move the state by a and by 3 a, so that their mean does by 2 a, and a random one by either."""
    spec = Spec(2, 1, -jnp.ones(1), jnp.ones(1), {})
    dynamics = Ensemble(jax.random.key(0), 2, 1, members=2, hidden=())
    layer = dynamics.nets.layers[0]
    weight = jnp.zeros_like(layer.weight).at[:, 2, :2].set(jnp.array([[1.0], [3.0]]))
    bias = jnp.zeros_like(layer.bias).at[:, 3:].set(-60.0)
    dynamics = eqx.tree_at(
        lambda each: (each.nets.layers[0].weight, each.nets.layers[0].bias, each.lowest),
        dynamics,
        (weight, bias, jnp.full((2, 3), -40.0)),
    )
    first, actions = jnp.array([[1.0, 5.0]]), jnp.array([[[0.5], [-0.2], [0.1]]])
    given = (dynamics, spec, first, actions, jax.random.key(0))
    made = open_loop.step_by_step(*given, sampled=False)
    np.testing.assert_allclose(made[0], first + 2 * jnp.cumsum(actions[0], 0), atol=1e-5)
    sampled = np.asarray(open_loop.step_by_step(*given, sampled=True))[0]
    factors = np.diff(np.concatenate([first, sampled]), axis=0) / actions[0]
    assert (np.isclose(factors, 1, atol=1e-4) | np.isclose(factors, 3, atol=1e-4)).all()


def test_the_whole_recipe_at_the_smallest_size(tmp_path, monkeypatch):
    monkeypatch.setattr(open_loop, "WindowDynamics", partial(open_loop.WindowDynamics, multipliers=(1,)))
    data().save(f"d4rl:{tmp_path / 'data.hdf5'}")
    small = {"horizon": 8, "width": 8, "hidden": [8], "windows": 3, "held_out": 0.2}
    options = SimpleNamespace(
        data=f"d4rl:{tmp_path / 'data.hdf5'}", out=tmp_path, ensemble_steps=2, diffusion_steps=2, **small
    )
    open_loop.run(options)
    told = json.loads((tmp_path / "open_loop.json").read_text())
    assert len(told["errors"]) == 4
    assert all(np.isfinite(each["median"]).all() and len(each["median"]) == 7 for each in told["errors"].values())
    assert (tmp_path / "open_loop.png").exists()
