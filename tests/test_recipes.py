"""Every recipe is a command that the command line takes: a renamed field or a mistyped size is found here."""

import tomllib
from pathlib import Path

import pytest

from reverie import cli

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = {name: row for file in FOLDER.glob("*.toml") for name, row in tomllib.loads(file.read_text()).items()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_is_parsed_up_to_its_data(name, capsys):
    words = RECIPES[name]["train"].format(data="nowhere").split()
    words[words.index("--data") + 1] = "d4rl:nowhere.hdf5"
    assert cli.main(["train", *words, "--steps", "1"]) == 2
    assert "nowhere.hdf5" in capsys.readouterr().err
    assert RECIPES[name]["steps"] > 0
    assert RECIPES[name]["eval"].startswith("--env ")
