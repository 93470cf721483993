"""Every recipe is a command that the command line takes: a renamed field or a mistyped size is found here."""

import argparse
import importlib
import tomllib
from pathlib import Path

import numpy as np
import pytest

from reverie import cli
from reverie.data import Dataset
from reverie.loading import load_dataset

FOLDER = Path(__file__).parents[1] / "recipes"
PLANS = {file.stem: tomllib.loads(file.read_text()) for file in sorted((FOLDER / "tables").glob("*.toml"))}
CELLS = [
    (plan, kind, name) for plan in PLANS for kind in ("methods", "synthesizers") for name in PLANS[plan].get(kind, ())
]
FILES = sorted(FOLDER.glob("*.toml"))
RECIPES = {name: row for file in FILES for name, row in tomllib.loads(file.read_text()).items()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_is_parsed_up_to_its_data(name, capsys):
    words = RECIPES[name]["train"].format(data="nowhere").split()
    words[words.index("--data") + 1] = "d4rl:nowhere.hdf5"
    assert cli.main(["train", *words, "--steps", "1"]) == 2
    assert "nowhere.hdf5" in capsys.readouterr().err
    assert RECIPES[name]["steps"] > 0
    assert RECIPES[name]["eval"].startswith("--env ")


@pytest.mark.parametrize("plan, kind, name", CELLS)
@pytest.mark.parametrize("short", [False, True])
def test_the_tables_cell_is_parsed_up_to_its_data(plan, kind, name, short, capsys):
    """With what every set adds for the method."""
    row, sets = PLANS[plan][kind][name], PLANS[plan]["sets"].values()
    for extra in dict.fromkeys(each.get(name, "") for each in sets):
        words = " ".join((row["train"], "--steps 1", extra, row["short"] if short else "")).split()
        assert cli.main(["train", *words, "--data", "d4rl:nowhere.hdf5"]) == 2
        assert "nowhere.hdf5" in capsys.readouterr().err


@pytest.mark.parametrize("agent", ["sac", "sac-20", "synther-20"])
def test_the_online_recipes_agent_is_parsed_up_to_its_environment(agent, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    online, given = importlib.import_module("online"), []
    monkeypatch.setattr(online.subprocess, "run", lambda command, **_: given.extend(command[3:]))
    options = argparse.Namespace(env="Nowhere-v5", steps=1000, seeds=1, short=True, out=tmp_path)
    online.train(agent, options)
    assert cli.main(given) == 2
    assert "Nowhere-v5" in capsys.readouterr().err


def test_a_tenth_is_every_tenth_episode_and_the_complete_set_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    states, ends = np.repeat(np.arange(20.0), 3)[:, None], np.arange(60) % 3 == 2
    complete = Dataset.from_arrays(states, np.linspace(-1, 1, 60)[:, None], np.arange(60), np.zeros(60), ends)
    complete.save(f"d4rl:{tmp_path}/some.hdf5")
    (tmp_path / "out" / "data").mkdir(parents=True)
    options = argparse.Namespace(data=tmp_path, out=tmp_path / "out")
    for _ in range(2):  # What is there is not made again.
        importlib.import_module("augmentation").tenth("some", options)
    kept = load_dataset(f"d4rl:{tmp_path}/out/data/some-tenth.hdf5")
    np.testing.assert_array_equal(np.unique(kept.observations), [0, 10])
    assert load_dataset(f"d4rl:{tmp_path}/out/data/some.hdf5").fingerprint == complete.fingerprint


@pytest.mark.parametrize(
    "name, data",
    [("hopper", "all"), ("hopper-tenth", "a tenth"), ("hopper-tenth-synther", "a tenth + synther")],
)
def test_the_augmentations_picture_has_a_line_for_each_data_set(name, data, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    row = importlib.import_module("augmentation").by_data({"set": name, "method": "iql", "normalised": 1})
    assert row == {"set": "iql, hopper", "method": data, "normalised": 1}
