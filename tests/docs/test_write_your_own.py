"""The page "Write your own method", run as a reader would: its files, its commands, its Python."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import reverie
from reverie.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "write-your-own.md").read_text()
FILES = dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE, re.S))
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ (.*)$", PAGE, re.M)]
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.S)
TINY = {
    "mypolicy:MyPolicy": "--steps 4 --hidden 8 --diffusion-steps 5 --batch-size 8",
    "myplanner:MyPlanner": "--steps 3 --horizon 2 --width 8 --multipliers 1 --diffusion-steps 2 --batch-size 4",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files in a folder of their own, with a little data."""
    path = tmp_path_factory.mktemp("own")
    for name, code in FILES.items():
        (path / name).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.syspath_prepend(str(path))
        import swing

        swing.collect(3).save("d4rl:swing.hdf5")
        yield path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def shortened(command: list[str]) -> list[str]:
    """A command with options that take seconds: the last one of each holds."""
    if "train" in command and "--resume" not in command:
        return command[1:] + TINY[command[2]].split()
    if "--resume" in command:
        return [*command[1:-1], "6"]
    return [*command[1:], "--episodes", "2", "--max-steps", "3"]


@pytest.mark.parametrize("module", ["mypolicy", "myplanner"])
def test_its_commands_train_evaluate_and_resume(folder, module, capsys):
    kind = module.removeprefix("my")
    ours = [words for words in COMMANDS if words[0] == "reverie" and any(kind in word for word in words)]
    commands = {(words[1], "--resume" in words): words for words in ours}  # one of each kind
    assert len(commands) >= 2
    for words in commands.values():
        assert main(shortened(words)) == 0, words
    run = reverie.load(f"runs/{kind}")
    assert run.algorithm.name == f"my-{kind}"
    assert run.step == (6 if ("train", True) in commands else 3)
    assert f"my-{kind}" in capsys.readouterr().out


def test_the_planner_is_asked_by_name_and_shape(folder, capsys):
    assert main(["eval", "runs/planner", "--env", "Pendulum-v1", "--acting", "target=3"]) == 2
    assert "'target' is nothing that my-planner can change in acting" in capsys.readouterr().err
    asked = reverie.load("runs/planner").acting(target_return=[1.0, 2.0]).policy()
    with pytest.raises(reverie.errors.ReverieError, match=r"target_return has shape \(2,\), and must be a number"):
        asked.reset()
    policy = reverie.load("runs/planner").policy()
    carry = policy.reset(target_return=-50)
    assert float(policy.rewish(carry, target_return=-7)[1]["target_return"][0]) == -7


def test_its_python(folder):
    names: dict = {}
    for block in PYTHON:
        exec(block.replace("steps=200", "steps=3").replace("collect(20)", "collect(3)"), names)
    assert names["action"].shape == (1,)
    assert np.all(np.abs(names["action"]) <= 2)
    assert names["features"].shape == (4, names["encoder"].dim)


def test_a_method_is_of_about_sixty_lines():
    lines = {name: sum(bool(line.strip()) for line in code.splitlines()) for name, code in FILES.items()}
    assert lines["mypolicy.py"] <= 60
    assert lines["myplanner.py"] <= 60
