"""The recipe of what becomes of what is asked for: its paths and its discount by hand, and both pictures tiny."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

import reverie
from reverie.planners import DecisionDiffuser

TINY = {"horizon": 4, "width": 8, "multipliers": (4,), "diffusion_steps": 2, "hidden": (8,)}


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    return importlib.import_module("wishes")


def test_paths_say_of_one_place_whether_they_will_yet_pass_it(recipe):
    data = recipe.paths(200, 16)
    places = data.observations.reshape(200, 16, 2)
    told = {name: data.infos[name].reshape(200, 16) for name in recipe.PLACES}
    assert ((told["one"] >= 0) ^ (told["other"] >= 0)).all(), "never both"
    np.testing.assert_allclose(places[:, 0], np.tile([0.0, -0.2], (200, 1)), atol=1e-6)
    np.testing.assert_allclose(places[:, :-1] + data.actions.reshape(200, 16, 2)[:, :-1], places[:, 1:], atol=1e-6)
    for name, centre in recipe.PLACES.items():
        known = told[name][:, 0] >= 0
        passing = (np.hypot(*np.moveaxis(places - centre, -1, 0)) < recipe.RADIUS)[known]
        np.testing.assert_array_equal(told[name][known][:, 0], passing.any(1))
        np.testing.assert_array_equal(told[name][known][:, 9], passing[:, 9:].any(1))


class Rewarded(gymnasium.Env):
    """A reward of 1 for each of three steps."""

    observation_space, action_space = Box(-9, 9, (2,)), Box(-9, 9, (2,))

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, False, self.steps == 3, {}


def test_returns_are_discounted_from_the_episode_s_start(recipe, monkeypatch):
    monkeypatch.setattr(recipe, "make", lambda name: Rewarded())
    env = recipe.discounted("rewarded", 0.5)()
    for _ in range(2):
        env.reset()
        assert [env.step(np.zeros(2))[1] for _ in range(3)] == [1, 0.5, 0.25]
    assert recipe.discounted("rewarded", 1.0) == "rewarded"


@pytest.mark.slow
def test_both_pictures_are_drawn(recipe, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(recipe, "PLANNER", replace(recipe.PLANNER, **TINY))
    command = f"together --paths 200 --horizon 4 --width 8 --steps 2 --seeds 2 --plans 5 --out {tmp_path}"
    recipe.main(command.split())
    assert (tmp_path / "together.png").stat().st_size > 10_000
    assert "| the one, NOT the other |" in (tmp_path / "together.md").read_text()

    monkeypatch.setattr(recipe, "make", lambda name: Rewarded())
    monkeypatch.chdir(tmp_path)
    data = replace(recipe.paths(20, 4), rewards=np.ones(80, np.float32))
    reverie.fit(DecisionDiffuser(**TINY, discount=0.5), data, steps=1, seeds=2, out=tmp_path / "dd", progress=False)
    command = "returns dd --env rewarded --points 2 --episodes 2 --out ."
    for _ in range(2):
        recipe.main(command.split())
    rows = json.loads(Path("wishes.json").read_text())
    assert [row["got"] for row in rows] == [[[1.75] * 2] * 2] * 2
    assert rows[0]["asked"] < 1 < 1.875 < rows[1]["asked"]
    assert not Path("dd/evaluation.json").exists()
    assert Path("returns.png").stat().st_size > 10_000
    with pytest.raises(SystemExit):
        recipe.main(["returns", "paths", *command.split()[2:]])
    assert "cannot be asked for target_return" in capsys.readouterr().err
