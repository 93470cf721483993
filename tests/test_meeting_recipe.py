"""The recipe of a meeting: what an agent's plan for the other is compared with, and the picture, tiny."""

import importlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Spec
from reverie.planners import MADiff
from reverie.training import Run


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    return importlib.import_module("meeting")


def test_a_plan_for_the_other_is_compared_with_where_it_goes(recipe, monkeypatch):
    """The first agent's plan has the other 1 further on than it is, at each row of its own; other plans are not looked
    at, and neither are rows after the end of most episodes."""
    places = np.arange(10.0).reshape(5, 2, 1)
    data = Dataset.from_arrays(places, np.zeros((5, 2, 1)), np.ones(5), timeouts=np.arange(5) == 4)
    algorithm = MADiff(execution="decentralised", horizon=4, width=8, multipliers=(1,))
    _, spec = algorithm.prepare(data)
    units = {"returns": spec.normalisers["returns"]}
    spec = Spec(spec.observation, spec.action, spec.action_low, spec.action_high, units)
    rows = np.full((1, 2, 4, 2), 100.0)
    rows[0, 0, :3, 1] = places[2:, 1, 0] + 1
    monkeypatch.setattr(recipe, "expected", lambda *arguments: jnp.asarray(rows))
    run = Run(algorithm, spec, jnp.zeros(1), 0, (0,))
    assert recipe.misses(run, data, 2) == [1.0, 1.0, 1.0]


def test_paths_and_errors_are_drawn(recipe, tmp_path):
    paths = [[[0.0, 0.0], [0.5, -0.5]], [[0.0, 0.0], [0.5, 0.4], [1.0, 0.9]]]
    arms = [{"arm": name, "met": 0.5, "meetings": [False, True], "paths": paths} for name in recipe.ARMS]
    picture = recipe.draw([*arms, {"told after": 0, "error": [0.1, 0.2]}], tmp_path / "meeting.png")
    assert picture.stat().st_size > 10_000
