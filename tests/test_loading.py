"""What is loaded by a name: data sets that are made here, and runs to go on with."""

import json
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from tiny_algorithm import TinyBC, TinyExplorer, leaves, synthetic

import reverie
from reverie.catalogue import ALGORITHMS
from reverie.cli import main
from reverie.collection import datasets
from reverie.collection.parts import digest
from reverie.errors import DataError, RunError
from reverie.training import fit_online


def test_a_generated_data_set_is_made_once_and_kept(tmp_path, monkeypatch):
    made = []

    @contextmanager
    def make(name, **_):
        made.append(name)
        yield synthetic()

    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "DATASETS", {"line": SimpleNamespace(recipe="a line")})
    monkeypatch.setattr(datasets, "making", make)
    first, second = reverie.load_dataset("line"), reverie.load_dataset("line")
    assert made == ["line"]
    assert first.fingerprint == second.fingerprint == synthetic().fingerprint
    assert first.attributes["source"] == "line"
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [f"line-{digest('a line')}.hdf5"]


def test_a_generated_set_may_be_one_of_several(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets, "DATASETS", {"line": SimpleNamespace(recipe="a line")})
    monkeypatch.setattr(datasets, "making", lambda name, **_: nullcontext(synthetic(100)))
    synthetic(150, seed=1).save(f"d4rl:{tmp_path}/more.hdf5")
    both = reverie.load_dataset(f"line+d4rl:{tmp_path}/more.hdf5")
    assert len(both) == 250 and both.attributes["source"] == f"line+d4rl:{tmp_path}/more.hdf5"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(DataError, match=r"'hoper-expert' is no data set .* did you mean hopper-.*\? .*'d4rl:PATH"):
        reverie.load_dataset("hoper-expert")
    with pytest.raises(DataError, match=r"'zzz' is no data set .* `reverie data list` shows .*'d4rl:PATH"):
        reverie.load_dataset("zzz")


def test_a_run_goes_on_from_the_source_of_its_data_with_its_own_settings(tmp_path):
    synthetic().save(f"d4rl:{tmp_path}/data.hdf5")
    data = reverie.load_dataset(f"d4rl:{tmp_path}/data.hdf5")
    how = {"seeds": 2, "seed": 3, "segment": 5, "progress": False}
    whole = reverie.fit(TinyBC(lr=1e-2), data, steps=20, **how)
    reverie.fit(TinyBC(lr=1e-2), data, steps=10, keep=3, out=tmp_path / "run", **how)
    resumed = reverie.resume(tmp_path / "run", steps=20, progress=False)
    assert (resumed.algorithm, resumed.seeds, resumed.step) == (TinyBC(lr=1e-2), (3, 4), 20)
    assert all(map(np.array_equal, leaves(whole), leaves(resumed)))
    assert reverie.resume(tmp_path / "run", progress=False).step == 20  # there is nothing left to do


class Still(gymnasium.Env):
    """One step an episode, in which nothing happens."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, True, False, {}


@dataclass(frozen=True)
class Exploring(TinyExplorer):
    name: ClassVar[str] = "exploring"


@pytest.fixture
def online(tmp_path, monkeypatch):
    """The folder of an online run in an environment that has a name."""
    monkeypatch.setitem(ALGORITHMS, "exploring", Exploring)
    gymnasium.register("ReverieStill-v0", Still)
    settings = {"warmup": 10, "update_interval": 10, "log_every": 10, "progress": False}
    fit_online(Exploring(), "ReverieStill-v0", steps=20, out=tmp_path / "run", **settings)
    yield tmp_path / "run"
    del gymnasium.registry["ReverieStill-v0"]


def test_an_online_run_goes_on_too(online):
    run = reverie.resume(online, steps=40, progress=False)
    assert run.step == 40 and len(run.histories[0]) == 40
    assert run.metrics()["step"].tolist() == [20, 30, 40]


def test_an_online_run_takes_no_data(online):
    with pytest.raises(RunError, match=r"The run in '.*' learns online, from its own replay: go on with it without"):
        reverie.resume(online, synthetic(), steps=40, progress=False)


def test_the_command_line_counts_its_environment_steps(online, capsys):
    assert main(["train", "--resume", str(online), "--steps", "30"]) == 0
    assert f"exploring: 30 environment steps of 1 seed(s) in {online}" in capsys.readouterr().out


def test_a_run_of_another_version_says_so(tmp_path):
    reverie.fit(TinyBC(), synthetic(), steps=1, out=tmp_path, progress=False)
    config = json.loads((tmp_path / "config.json").read_text())
    config["training"]["pace"] = "slow"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="where training had a setting 'pace' that it lacks"):
        reverie.resume(tmp_path, synthetic(), progress=False)


@pytest.mark.parametrize("part, setting", [("online", "every"), ("synthesis", "share")])
def test_an_online_run_of_another_version_says_so(online, part, setting):
    config = json.loads((online / "config.json").read_text())
    config[part][setting] = 1
    config["versions"]["reverie"] = "0.0.7"
    (online / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        RunError, match=f"written by reverie 0.0.7, where {part} had a setting '{setting}' that it lacks"
    ):
        reverie.resume(online, steps=40, progress=False)
