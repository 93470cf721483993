"""Every recipe is a command that the command line takes: a renamed field or a mistyped size is found here."""

import argparse
import importlib
import tomllib
from pathlib import Path

import pytest

from reverie import cli

FOLDER = Path(__file__).parents[1] / "recipes"
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


@pytest.mark.parametrize("agent", ["sac", "sac-20", "synther-20"])
def test_the_online_recipes_agent_is_parsed_up_to_its_environment(agent, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(FOLDER))
    online, given = importlib.import_module("online"), []
    monkeypatch.setattr(online.subprocess, "run", lambda command, **_: given.extend(command[3:]))
    options = argparse.Namespace(env="Nowhere-v5", steps=1000, seeds=1, short=True, out=tmp_path)
    online.train(agent, options)
    assert cli.main(given) == 2
    assert "Nowhere-v5" in capsys.readouterr().err
