"""Algorithms by their names, those of a user's own package as module:Class, and old configurations."""

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from tiny_algorithm import TinyBC, synthetic

import reverie
from reverie.baselines import BC
from reverie.catalogue import ALGORITHMS, check, find, from_config, name_of, to_config
from reverie.cli import main
from reverie.data import Dataset
from reverie.errors import RunError

METHOD = '''
"""A user's own method: acts by the mean of the data's actions."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from reverie.data import Spec, pairs
from reverie.settings import Acting, Count, Fraction, Settings


@dataclass(frozen=True)
class Mean(Settings):
    """The mean action."""

    name: ClassVar = "mean"
    role: ClassVar = "policy"
    paper: ClassVar = "none"
    needs: ClassVar = ()

    batch_size: Count = 8
    rate: Fraction = 0.5
    """How far to go."""
    sign: Acting[float] = 1.0
    sizes: tuple[int, ...] = (1, 2)

    def prepare(self, data, spec=None):
        spec = spec or Spec.fit(data)
        return pairs(data, spec), spec

    def init(self, key, spec):
        return jnp.zeros(spec.action_dim)

    def update(self, state, batch, key):
        error = batch["actions"].mean(0) - state
        return state + self.rate * error, {"error": jnp.abs(error).max()}

    def reset(self, spec, n, wishes):
        return ()

    def act(self, state, spec, observation, carry, feedback, key):
        return jnp.broadcast_to(self.sign * state, (len(observation), len(state))), carry


class Plain(Mean):
    pass


@dataclass(frozen=True)
class Nothing:
    name: ClassVar = "nothing"


class Bare:
    name = role = paper = needs = prepare = init = update = None


helper = 3
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A working directory with a user's package and data in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "method.py").write_text(METHOD)
    (tmp_path / "mine" / "broken.py").write_text("import nowhere_to_be_found\n")
    rng = np.random.default_rng(0)
    data = Dataset.from_arrays(rng.normal(size=(40, 3)), np.full((40, 1), 0.5), timeouts=np.arange(40) % 20 == 19)
    data.save("d4rl:data.hdf5")
    yield tmp_path
    forget()


def forget():
    """As in a new process."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def test_every_name_finds_its_class_and_is_found_again():
    for name, cls in ALGORITHMS.items():
        assert find(name) is cls
    assert name_of(BC()) == "bc"


def test_an_own_class_is_trained_evaluated_and_resumed_from_the_command_line(package, capsys):
    train = ["train", "mine.method:Mean", "--data", "d4rl:data.hdf5", "--steps", "2", "--rate", "0.75"]
    assert main(train) == 0
    run = package / "runs" / "mean-data"
    config = json.loads((run / "config.json").read_text())["algorithm"]
    assert config == {"name": "mine.method:Mean", "batch_size": 8, "rate": 0.75, "sign": 1.0, "sizes": [1, 2]}
    forget()
    assert main(["train", "--resume", "runs/mean-data", "--steps", "4"]) == 0
    forget()
    few = ["--env", "Pendulum-v1", "--episodes", "1", "--max-steps", "2", "--acting", "sign=-1.0"]
    assert main(["eval", "runs/mean-data", *few]) == 0
    assert "mean (sign=-1.0) in Pendulum-v1" in capsys.readouterr().out
    forget()
    loaded = reverie.load("runs/mean-data")
    assert loaded.step == 4 and loaded.algorithm.sizes == (1, 2)
    policy = loaded.policy()
    action, _ = policy.act(np.zeros(3), policy.reset())
    np.testing.assert_allclose(action, 0.5 * (1 - 0.25**4), rtol=1e-6)  # the part that is left, a quarter each time
    with pytest.raises(SystemExit, match="2"):
        main([*train, "--rate", "2"])
    assert "rate = 2.0, but it must be a number from 0 to 1" in capsys.readouterr().err


def test_a_class_and_its_configuration_survive(package):
    cls = find("mine.method:Mean")
    algorithm = cls(rate=0.1, sizes=(3,))
    assert name_of(algorithm) == "mine.method:Mean"
    assert from_config(json.loads(json.dumps(to_config(algorithm)))) == algorithm


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("difuser", "There is no algorithm 'difuser'; did you mean one of: diffuser"),
        ("mean", "One of your own is named as package.module:Class"),
        (
            "nowhere.at_all:Mean",
            r"'nowhere.at_all:Mean' cannot be imported \(No module named 'nowhere'\); start in the folder",
        ),
        ("mine.broken:Mean", r"cannot be imported \(No module named 'nowhere_to_be_found'\)"),
        (":Mean", r"':Mean' cannot be imported \(Empty module name\)"),
        ("mine.method:Meen", "The module 'mine.method' has no 'Meen'; name it as package.module:Class"),
        ("mine.method:", "The module 'mine.method' has no ''"),
        (
            "mine.method:helper",
            "'mine.method:helper' is no algorithm: it lacks name, role, paper, needs, prepare, init, update",
        ),
        ("mine.method:Nothing", "is no algorithm: it lacks role, paper, needs, prepare, init, update"),
        ("mine.method:Bare", "is no algorithm: it is no dataclass"),
    ],
)
def test_what_is_no_algorithm_gets_a_sentence(package, name, sentence):
    with pytest.raises(RunError, match=sentence):
        find(name)


SCRIPT = """
import reverie
from mine.method import Mean

class Own(Mean):
    name = "own"

if __name__ == "__main__":
    run = reverie.fit(Own(), reverie.load_dataset("d4rl:data.hdf5"), steps=1, out="run", progress=False)
    assert type(reverie.load("run").algorithm) is Own
    reverie.fit(Own(), reverie.load_dataset("d4rl:data.hdf5"), steps=1, initial=reverie.load("run"), progress=False)
"""


def test_a_class_of_a_script_is_found_by_the_scripts_name(package):
    """In the script itself, and where it is imported."""
    (package / "script_of_mine.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script_of_mine.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((package / "run" / "config.json").read_text())["algorithm"]["name"] == "script_of_mine:Own"
    try:
        assert reverie.load("run").algorithm.name == "own"
    finally:
        del sys.modules["script_of_mine"]


def test_a_class_that_only_a_function_knows_cannot_be_found_again():
    @dataclass(frozen=True)
    class Local(TinyBC):
        name: ClassVar[str] = "local"

    with pytest.raises(RunError, match="<locals>"):
        from_config(to_config(Local()))


def test_a_field_that_is_gone_says_which_version_had_it(tmp_path):
    reverie.fit(TinyBC(), synthetic(), steps=1, out=tmp_path, progress=False)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["versions"]["reverie"] == reverie.__version__
    config["algorithm"]["depth"] = 3
    config["versions"]["reverie"] = "0.1.0"
    (tmp_path / "config.json").write_text(json.dumps(config))
    sentence = "The run was written by reverie 0.1.0, where tiny-bc had a field 'depth' that it lacks in"
    with pytest.raises(RunError, match=sentence):
        reverie.load(tmp_path)
    with pytest.raises(RunError, match=sentence):
        reverie.resume(tmp_path, synthetic(), progress=False)


def test_what_is_no_algorithm_is_refused_in_python_too():
    @dataclass(frozen=True)
    class Halfway:
        name: ClassVar = "halfway"
        role: ClassVar = "policy"
        paper: ClassVar = "none"
        needs: ClassVar = ()

        def prepare(self, data, spec=None): ...
        def init(self, key, spec): ...
        def act(self, state, spec, observation, carry, feedback, key): ...

    with pytest.raises(RunError, match=r"Halfway is no algorithm: it lacks update \(or stages\), reset; see"):
        check(Halfway())
    with pytest.raises(RunError, match=r"Halfway is a class; give an instance of it, Halfway\(\)"):
        check(Halfway)
