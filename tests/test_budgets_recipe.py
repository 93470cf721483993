"""The recipe that asks for budgets, without a training."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from reverie.collection.recipe import Part
from reverie.collection.speed import RandomSpeeds
from reverie.data import Dataset, costs_to_go
from reverie.environments.speed import GAIN, LIMIT


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "recipes"))
    return importlib.import_module("budgets")


class Keeping:
    """Two seeds that keep speeds: of the first 0.25 for one budget and 0.5 for the other, of the second 0.1 more."""

    name = "keeping"
    run = SimpleNamespace(seeds=(0, 1))

    def reset(self, n):
        self.speeds = (np.array([[0.25, 0.5], [0.35, 0.6]])[..., None] * np.ones(n // 4)).ravel()

    def act(self, observations, feedback=None):
        return (self.speeds[:, None] - observations[:, :1]) / GAIN


def test_costs_are_told_apart_by_budget_seed_and_episode(recipe):
    found = recipe.played(Keeping(), 3, 2)
    costs = np.array(found["costs"])
    assert costs.shape == (2, 2, 3) and found["returns"] == found["costs"]
    # Reached within two steps of a start below 0.2.
    expected = LIMIT * np.array([[0.25, 0.35], [0.5, 0.6]])[..., None]
    assert ((costs <= expected + 1e-3) & (costs > expected - 1)).all()


def test_the_return_that_is_asked_for_is_the_highest_within_the_budget(recipe):
    """Episodes of one step that cost 1, 2 and 3 and return 5, 4 and 9."""
    data = Dataset.from_arrays(np.zeros((3, 1)), np.zeros((3, 1)), [5, 4, 9], timeouts=np.ones(3), costs=[1, 2, 3])
    assert [recipe.highest_return(data, budget) for budget in (0.5, 1, 2, 3)] == [0, 5, 5, 9]


def test_true_costs_are_those_of_windows_that_reach_to_the_end(recipe):
    """Of the data's own windows of four rows: those that begin up to four steps before the end; others are learned."""
    planner = recipe.Knowing(horizon=4, multipliers=(1,))
    data = RandomSpeeds().dataset(RandomSpeeds().collect(Part(0, 3 * LIMIT, 0)), 3 * LIMIT, 0)
    view, spec = planner.prepare(data)
    batch = view.take(np.arange(len(view)))
    costs = planner.to_go(lambda x, t: 0 * x[..., 0, 0], spec, "costs_to_go")(planner.blocks(spec).join(batch), 0.1)
    last = np.arange(len(view)) % LIMIT >= LIMIT - 4
    expected = np.where(last, costs_to_go(data, planner.discount), costs_to_go(data, planner.discount).mean())
    np.testing.assert_allclose(costs, expected, atol=1e-4)


def test_rows_become_a_table_and_a_picture(recipe, tmp_path):
    costs = [[[6.0, 7.0], [6.0, 6.0]], [[20.0, 20.0], [20.0, 20.0]]]
    rows = [
        {"method": "TREBI", "shares": [0.2, 0.8], "costs": costs, "returns": costs},
        {"method": "TREBI, changed", "shares": [0.4, 0.6], "costs": costs, "returns": costs}
        | {"spent": np.zeros((2, 4, LIMIT)).tolist()},
    ]
    recipe.table(rows, tmp_path / "budgets.md")
    text = (tmp_path / "budgets.md").read_text()
    assert "| TREBI | 6.4 | 6.25 (" in text and "| 25 % |" in text and "| TREBI | 25.6 | 20.00 (" in text
    recipe.draw(rows, tmp_path / "budgets.png")
    assert (tmp_path / "budgets.png").stat().st_size > 10_000
