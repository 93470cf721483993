"""The recipe of what becomes of what is asked for: its paths and its discount by hand, and both pictures tiny."""

import importlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box

from reverie.baselines import BC
from reverie.evaluation import evaluate
from reverie.planners import DecisionDiffuser
from reverie.training import Run

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


@pytest.mark.parametrize(("discount", "got"), [(0.5, 1.75), (1.0, 3.0)])
def test_returns_are_discounted_from_the_episode_s_start_and_the_run_is_fed_rewards_as_they_come(
    recipe, monkeypatch, discount, got
):
    """What counts its return to go discounts the rewards itself."""
    fed = []
    spy = SimpleNamespace(name="spy", reset=lambda n: None)
    spy.act = lambda seen, feedback: fed.append(feedback["reward"].tolist()) or np.zeros((4, 2))
    monkeypatch.setattr(recipe, "make", lambda name: Rewarded())
    monkeypatch.setattr(recipe.reverie, "evaluate", lambda run, env, *rest, **options: evaluate(spy, env, 4))
    run = SimpleNamespace(algorithm=SimpleNamespace(discount=discount), acting=lambda **asked: Spied())
    env = "rewarded" if discount < 1 else Rewarded
    found = recipe.got(run, 1.0, SimpleNamespace(env=env, episodes=4, max_steps=None))
    assert fed == [[0] * 4, [1] * 4, [1] * 4]
    assert found == {"got": [[got] * 4]}


@dataclass(frozen=True)
class Spied:
    path: Path | None = None


def untrained(algorithm, data, seeds=2, **_) -> Run:
    """A run of zeros, for which nothing is compiled."""
    spec = algorithm.prepare(data)[1]
    shapes = jax.eval_shape(lambda spec: algorithm.init(jax.random.key(0), spec), spec)
    states = jax.tree.map(lambda x: jnp.zeros((seeds, *x.shape), x.dtype), shapes)
    return Run(algorithm, spec, states, 1, tuple(range(seeds)), Path("dd"))


def test_plans_are_drawn_for_every_wish(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(recipe, "PLANNER", replace(recipe.PLANNER, **TINY))
    monkeypatch.setattr(recipe.reverie, "fit", untrained)
    command = f"together --paths 200 --horizon 4 --width 8 --seeds 2 --plans 5 --out {tmp_path}"
    recipe.main(command.split())
    assert (tmp_path / "together.png").stat().st_size > 10_000
    assert "| the one, NOT the other |" in (tmp_path / "together.md").read_text()


def test_returns_are_measured_once_and_drawn(recipe, monkeypatch, tmp_path):
    """Rewards of 1 for three steps, discounted by 0.5; in the data of nothing or of 1 for four."""
    data = replace(recipe.paths(20, 4), rewards=np.float32(np.arange(80) // 4 % 2))
    run = untrained(DecisionDiffuser(**TINY, discount=0.5), data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipe, "make", lambda name: Rewarded())
    monkeypatch.setattr(recipe.reverie, "load", lambda path: run)
    for _ in range(2):
        recipe.main(["returns", "dd", "--env", "rewarded", "--points", "2", "--episodes", "2", "--out", "."])
    rows = json.loads(Path("wishes.json").read_text())
    assert [row["got"] for row in rows] == [[[1.75] * 2] * 2] * 2
    assert rows[0]["asked"] < 1 < 1.875 < rows[1]["asked"]
    assert not Path("dd/evaluation.json").exists()
    assert Path("returns.png").stat().st_size > 10_000


def test_a_run_that_cannot_be_asked_for_a_return_is_refused(recipe, monkeypatch, tmp_path, capsys):
    other = Run(BC(), None, {}, 0, (0,))
    monkeypatch.setattr(recipe.reverie, "load", lambda path: other)
    with pytest.raises(SystemExit):
        recipe.main(["returns", "bc", "--env", "rewarded", "--out", str(tmp_path)])
    assert "bc in bc cannot be asked for target_return" in capsys.readouterr().err
