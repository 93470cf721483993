"""The recipe of a task that training left out: what is left out, and what is told of it."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from reverie.collection import make_dataset


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    return importlib.import_module("left_out")


def test_a_task_is_left_out_and_told_by_its_own_best_demonstration(recipe):
    data = make_dataset("compass", steps=2 * 8 * 40)
    kept = recipe.without(data, "north")
    assert len(kept) == 7 * len(data) / 8 and "north" not in kept.attributes["tasks"]
    for name in ("east", "south-east"):  # before it and after it
        theirs = [
            each.observations[each.infos["task"] == each.attributes["tasks"].index(name)] for each in (data, kept)
        ]
        np.testing.assert_array_equal(*theirs)
    told = recipe.prompt(data, "north")
    assert told.shape == (8, 4) and told[-1, 1] > told[0, 1] + 0.1, "which goes north"
    env = recipe.One("north")
    assert [env.reset(seed=seed)[1]["task"] for seed in range(3)] == [3, 3, 3]


def test_what_was_measured_is_told_and_not_made_again(recipe, tmp_path, monkeypatch):
    successes = {task: [[1, 0]] for task in recipe.TASKS} | {"north": [[0, 0]]}
    monkeypatch.setattr(recipe, "measured", lambda *_: {"successes": successes})
    monkeypatch.setattr(recipe, "make_dataset", lambda _: None)
    words = ["--out", str(tmp_path), "--tasks", "north", "--methods", "mt-bc"]
    recipe.main(words)
    assert "| mt-bc | north | 0 (0 to 0) | 50 (" in (tmp_path / "left_out.md").read_text()
    monkeypatch.setattr(recipe, "measured", None)
    recipe.main(words)
    assert len(json.loads((tmp_path / "left_out.json").read_text())) == 1
