"""Where else the metrics go: what each tool is told, of a run that begins and of one that goes on."""

import json
import sys
from unittest.mock import MagicMock

import pytest
from tiny_algorithm import TinyBC, synthetic

import reverie
from reverie import loading
from reverie.errors import ReverieError
from reverie.training import fit
from reverie.training.loggers import LOGGERS, columns, open_loggers

DATA = synthetic()
CONFIG = {"algorithm": {"name": "bc", "hidden": [8]}, "training": {"steps": 40}}
ROWS = [{"seed": 0, "step": 20, "loss": 1.5, "score": float("nan")}, {"seed": 3, "step": 20, "loss": 2.5}]


@pytest.fixture
def tool(monkeypatch):
    """A stand-in for a tool's package, which remembers what it was told."""

    def stand_in(name):
        made = MagicMock()
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return stand_in


def log_twice(name, folder):
    """A run that logs a row, ends, and goes on with another."""
    for done in (0, 20):
        (logger,) = open_loggers([name], folder / "logs", CONFIG, done)
        logger.log(done + 20, columns(ROWS))
        logger.close()


def test_columns_are_of_a_metric_and_a_seed_and_what_is_not_finite_is_left_out():
    assert columns(ROWS) == {"loss/seed0": 1.5, "loss/seed3": 2.5}


def test_tensorboard_has_the_rows(tmp_path):
    pytest.importorskip("tensorboardX")
    fit(TinyBC(), DATA, steps=40, segment=20, out=tmp_path, loggers=["tensorboard"])
    (events,) = (tmp_path / "logs" / "tensorboard").iterdir()
    assert b"loss/seed0" in events.read_bytes()


def test_a_run_of_weights_and_biases_goes_on_under_its_name(tmp_path, tool, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "hopping")
    wandb = tool("wandb")
    log_twice("wandb", tmp_path / "hopper")
    first, second = (call.kwargs for call in wandb.init.call_args_list)
    assert first == second and first["resume"] == "allow"
    assert (first["project"], first["name"], first["config"]) == ("hopping", "hopper", CONFIG)
    steps = [call.kwargs["step"] for call in wandb.init.return_value.log.call_args_list]
    assert steps == [20, 40] and wandb.init.return_value.finish.call_count == 2


def test_a_run_of_mlflow_goes_on_under_its_name(tmp_path, tool):
    mlflow = tool("mlflow")
    mlflow.entities.Metric = lambda key, value, time, step: (key, value, step)
    client = mlflow.MlflowClient.return_value
    client.create_run.return_value.info.run_id = "abc"
    log_twice("mlflow", tmp_path / "hopper")
    assert client.create_run.call_count == 1 and client.create_run.call_args.kwargs == {"run_name": "hopper"}
    assert client.log_param.call_args_list[0].args == ("abc", "algorithm.name", "bc")
    assert client.log_batch.call_args.args == ("abc", [("loss/seed0", 1.5, 40), ("loss/seed3", 2.5, 40)])
    assert client.set_terminated.call_count == 2
    assert mlflow.MlflowClient.call_args.args[0].startswith("sqlite:///")


def test_a_run_of_trackio_goes_on_under_its_name(tmp_path, tool):
    trackio = tool("trackio")
    log_twice("trackio", tmp_path / "hopper")
    first, second = (call.kwargs for call in trackio.init.call_args_list)
    assert first["name"] == second["name"] and first["name"].startswith("hopper-")
    assert (first["resume"], second["resume"]) == ("never", "must")
    assert first["config"] == {"algorithm.name": "bc", "algorithm.hidden": [8], "training.steps": 40}


def test_loggers_are_kept_with_the_run_and_go_on_with_it(tmp_path, tool, monkeypatch):
    wandb = tool("wandb")
    fit(TinyBC(), DATA, steps=20, segment=20, out=tmp_path / "run", loggers=["wandb"])
    assert json.loads((tmp_path / "run" / "config.json").read_text())["training"]["loggers"] == ["wandb"]
    monkeypatch.setattr(loading, "from_config", lambda *_: TinyBC())
    reverie.resume(tmp_path / "run", DATA, steps=40)
    assert [call.kwargs["step"] for call in wandb.init.return_value.log.call_args_list] == [20, 40]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_package_is_said_before_anything_is_written(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, LOGGERS[name].package, None)
    with pytest.raises(ReverieError, match=rf'needs {LOGGERS[name].package}: pip install "reverie\[{name}\]"'):
        fit(TinyBC(), DATA, steps=40, out=tmp_path / "run", loggers=[name])
    assert not (tmp_path / "run").exists()


def test_another_name_is_no_logger(tmp_path):
    with pytest.raises(ReverieError, match="'comet' is no logger; there are tensorboard, wandb, mlflow, trackio"):
        fit(TinyBC(), DATA, steps=40, out=tmp_path, loggers=["comet"])
