"""The recipe of stitched ways: bridges taken in the fork by hand, and what is told of them."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from reverie.collection import make_dataset


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    return importlib.import_module("stitches")


@pytest.fixture
def halves(monkeypatch, tmp_path):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    return make_dataset("fork-halves", steps=8 * 29)


def found(halves):
    """A bridge of four steps beside the obstacle, right but for a hundredth, one through its middle, and a third that
    does not last."""
    half, begins = halves.infos["half"], halves.episodes[:, 0]
    ways = np.zeros((3, 6, 2), np.float32)
    ways[0, :, 0], ways[0, :, 1] = 0.55, np.arange(6) / 10
    ways[1, :, 1] = np.arange(6) / 10 - 0.2
    actions = np.diff(ways, axis=1)
    actions[0, 3, 1] += 0.01
    true = np.ones(3, bool)
    return {
        "states": ways,
        "actions": actions,
        "steps": np.full(3, 4),
        "error": np.array([2e-4, 0.05, 0.0]),
        "start": np.full(3, begins[half[begins] == 0][0] + 3),
        "target": np.full(3, begins[half[begins] == 1][0] + 9),
        "rest": np.full(3, 5),
        "near": true,
        "better": true,
        "lasting": np.array([True, True, False]),
        "accepted": np.array([True, False, False]),
    }


def test_bridges_are_taken_in_the_fork_and_kept_by_each_bound(recipe, halves):
    told = recipe.bridges(found(halves), halves)
    assert told["bridges"] == 3 and told["across"] == 100 and told["steps"] == 4
    assert told["possible"] == pytest.approx(200 / 3)
    bounds = {row["bound"]: row for row in told["bounds"]}
    assert bounds[1e-4] == {"bound": 1e-4, "kept": 0.0, "off": None, "touching": None}
    assert bounds[1e-3]["kept"] == 50 and bounds[1e-3]["touching"] == 0
    np.testing.assert_allclose(bounds[1e-3]["off"], [0.01, 0.01], atol=1e-6)
    assert bounds[None]["kept"] == 100 and bounds[None]["touching"] == 50


def test_what_was_measured_is_told_and_drawn(recipe, halves, tmp_path):
    rows = [{"what": "bridges"} | recipe.bridges(found(halves), halves)]
    rows += [
        {"what": "scores", "learner": "BC", "data": name, "reached": [0.0, at], "episodes": 2}
        for name, at in (("halves", 50.0), ("halves + stitched", 100.0))
    ]
    text = recipe.markdown(rows)
    assert "| none | 100 |" in text and "| 0.0001 | 0 |  |  |  |" in text
    assert "| BC, goals reached, % | 0, 50 | 0, 100 |" in text
    recipe.draw(found(halves), halves, tmp_path / "stitches.png")
    assert (tmp_path / "stitches.png").stat().st_size > 10_000
