"""The recipes of the other roles: what is left out of the training, and what plans see beyond an episode's end."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from reverie.data import Dataset


@pytest.fixture(autouse=True)
def folder(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))


def episodes(count: int, length: int) -> Dataset:
    rows = np.arange(count * length)
    observations = np.stack([rows // length, rows % length, 0 * rows, 0 * rows], 1)
    actions = np.zeros((len(rows), 2))
    return Dataset.from_arrays(observations, actions, 0 * rows, timeouts=rows % length == length - 1)


def test_every_tenth_episode_is_not_learned_from():
    learned, held = importlib.import_module("futures").parted(episodes(25, 3))
    assert set(held.observations[:, 0]) == {0, 10, 20}
    assert set(learned.observations[:, 0]) == set(range(25)) - {0, 10, 20}


def test_plans_stay_where_an_episode_ended_and_the_reward_s_windows_as_well():
    recipe = importlib.import_module("relative_reward")
    data = episodes(3, 20)
    for algorithm in (recipe.PLANNER, recipe.REWARD):
        view, spec = algorithm.prepare(data)
        seen = spec.denormalise("observations", view.take(np.array([15]))["observations"])
        np.testing.assert_allclose(seen[0, :, 1], [15, *[19] * (algorithm.horizon - 1)], atol=1e-4)


def test_a_short_sighted_policy_goes_straight_and_is_held_up_by_walls(monkeypatch, tmp_path):
    recipe = importlib.import_module("simulation")
    monkeypatch.setattr(recipe, "ASTRAY", 0.0)
    open_way, pocket = np.zeros((2, 7, 7), np.uint8)
    open_way[0, 0], open_way[6, 5] = 2, 3
    pocket[3, 1], pocket[3, 5], pocket[2:5, 3] = 2, 3, 1
    mazes = np.stack([open_way, pocket])
    assert recipe.played(mazes, np.random.default_rng(0)).tolist() == [1, 0]
    found = recipe.judged(mazes, 0.25)
    assert (found["success"], found["off"], found["path"]) == (0.5, 0.5, 9.5)
    rows = [{"mazes": "random"} | found, {"mazes": "edge", "candidates": 4, "probabilities": [0.5, 0.5]} | found]
    assert recipe.draw(rows, tmp_path / "mazes.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["Pendulum-v1", "linear"])
def test_the_task_is_put_where_a_trajectory_was_imagined_to_begin(name):
    recipe = importlib.import_module("imagined")
    env = recipe.Linear if name == "linear" else name
    data = recipe.collected(env, 60, 0)
    actions = data.actions[10:14]
    recipe.Linear.NOISE, before = 0.0, recipe.Linear.NOISE
    states = recipe.taken(env, data.observations[10:11], actions[None])
    recipe.Linear.NOISE = before
    tolerance = 1e-4 if name == "Pendulum-v1" else 5 * before
    np.testing.assert_allclose(states[0], data.observations[10:15], atol=tolerance)


def test_errors_are_of_trajectories_whose_task_goes_on(tmp_path):
    recipe = importlib.import_module("imagined")
    states, others = np.zeros((2, 3, 2)), np.ones((2, 3, 2))
    others[1, 1:], others[0, 2] = np.nan, 4.0
    assert recipe.errors(states, others, np.array([1.0, 2.0])) == [0.7906, 3.1623]
    rows = [{"env": "linear", "horizon": 3, "model": name, "error": [0.1, 0.2]} for name in ("mbpo", "the task itself")]
    assert recipe.draw(rows, tmp_path / "errors.png").stat().st_size > 10_000
