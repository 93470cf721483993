"""Every recipe is a command that the command line takes: a renamed field or a mistyped size is found here."""

import tomllib
from pathlib import Path

import pytest

from reverie import cli

FOLDER = Path(__file__).parents[1] / "recipes"
PLAN = tomllib.loads((FOLDER / "offline.toml").read_text())
FILES = [file for file in FOLDER.glob("*.toml") if file.name != "offline.toml"]
RECIPES = {name: row for file in FILES for name, row in tomllib.loads(file.read_text()).items()}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_is_parsed_up_to_its_data(name, capsys):
    words = RECIPES[name]["train"].format(data="nowhere").split()
    words[words.index("--data") + 1] = "d4rl:nowhere.hdf5"
    assert cli.main(["train", *words, "--steps", "1"]) == 2
    assert "nowhere.hdf5" in capsys.readouterr().err
    assert RECIPES[name]["steps"] > 0
    assert RECIPES[name]["eval"].startswith("--env ")


@pytest.mark.parametrize("method", PLAN["methods"])
@pytest.mark.parametrize("short", [False, True])
def test_the_tables_cell_is_parsed_up_to_its_data(method, short, capsys):
    """With what every set adds for the method."""
    row = PLAN["methods"][method]
    added = [plan.get(method, "") for plan in PLAN["sets"].values()]
    for extra in dict.fromkeys(added):
        words = " ".join((row["train"], extra, row["short"] if short else "")).split()
        assert cli.main(["train", *words, "--data", "d4rl:nowhere.hdf5", "--steps", "1"]) == 2
        assert "nowhere.hdf5" in capsys.readouterr().err
