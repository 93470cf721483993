"""Where else the rows of the metrics go while a run is trained: TensorBoard, Weights & Biases, MLflow, Trackio.

Each needs its extra, and is told where to write, as whom, and online or not, by its own environment variables
(WANDB_PROJECT, WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID, ...). A run that is gone on with goes on there too.
What a row has of a seed is called METRIC/seedN.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Protocol

from reverie.errors import ReverieError, RunError
from reverie.training.folder import flat

PROJECT = "reverie"
"""Where the tool's own environment variable names no other."""


class Logger(Protocol):
    """Of one run, whose files for it are in the folder `place`, and whose update `done` was the last one so far."""

    package: ClassVar[str]
    """What it needs."""

    def __init__(self, place: Path, config: Mapping[str, Any], done: int): ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers, by name, of an update (online: an environment step)."""

    def close(self) -> None: ...


def columns(rows: list[dict[str, float]]) -> dict[str, float]:
    """The finite numbers of rows of one step, of a seed each."""
    return {
        f"{name}/seed{row['seed']}": value
        for row in rows
        for name, value in row.items()
        if name not in ("seed", "step") and math.isfinite(value)
    }


def open_loggers(names: Sequence[str], path: Path, config: Mapping[str, Any], done: int) -> list[Logger]:
    """Of the run that begins, or goes on after update `done`, with their files in folders of the path."""
    return [LOGGERS[name](path / name, config, done) for name in names]


def check_loggers(names: Sequence[str], folder: Any) -> None:
    """Raise ReverieError for a name that is of none and for one whose package is missing, RunError without a folder."""
    for name in names:
        if name not in LOGGERS:
            raise ReverieError(f"{name!r} is no logger; there are {', '.join(LOGGERS)}.")
        if folder is None:
            raise RunError(f"{name} keeps in the run's folder what it needs to go on; give out= as well.")
        try:
            import_module(LOGGERS[name].package)
        except ImportError:
            package = LOGGERS[name].package
            raise ReverieError(f'The logger {name!r} needs {package}: pip install "reverie[{name}]".') from None


def _identity(place: Path) -> tuple[str, bool]:
    """The name under which the tool knows the run, and whether it knew it before."""
    place.mkdir(parents=True, exist_ok=True)
    file = place / "id"
    known = file.exists()
    if not known:
        file.write_text(uuid.uuid4().hex)
    return file.read_text(), known


class TensorBoard:
    """Files in the run's folder, for `tensorboard --logdir`."""

    package: ClassVar = "tensorboardX"

    def __init__(self, place: Path, config: Mapping[str, Any], done: int):
        from tensorboardX import SummaryWriter

        self.writer = SummaryWriter(str(place), purge_step=done + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """Steps that are logged again, after a run was killed, have the same values: that they are ignored there loses
    nothing."""

    package: ClassVar = "wandb"

    def __init__(self, place: Path, config: Mapping[str, Any], done: int):
        import wandb

        identity, _ = _identity(place)
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=place.parents[1].name,
            id=identity,
            resume="allow",
            dir=str(place),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """In the run's folder unless MLFLOW_TRACKING_URI says where else."""

    package: ClassVar = "mlflow"

    def __init__(self, place: Path, config: Mapping[str, Any], done: int):
        import mlflow

        self.entities = mlflow.entities
        place.mkdir(parents=True, exist_ok=True)
        file = f"sqlite:///{place.resolve() / 'mlflow.db'}"
        self.client = mlflow.MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or file)
        known = place / "id"
        if not known.exists():
            title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            found = self.client.get_experiment_by_name(title)
            experiment = found.experiment_id if found else self.client.create_experiment(title)
            known.write_text(self.client.create_run(experiment, run_name=place.parents[1].name).info.run_id)
            for name, value in flat(config):
                self.client.log_param(known.read_text(), name, str(value)[:500])
        self.run = known.read_text()
        self.client.update_run(self.run, status="RUNNING")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        self.client.log_batch(self.run, [self.entities.Metric(k, v, now, step) for k, v in values.items()])

    def close(self) -> None:
        self.client.set_terminated(self.run)


class Trackio:
    """On this machine, or in the space that TRACKIO_SPACE_ID names."""

    package: ClassVar = "trackio"

    def __init__(self, place: Path, config: Mapping[str, Any], done: int):
        import trackio

        identity, known = _identity(place)
        self.run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{place.parents[1].name}-{identity[:6]}",
            resume="must" if known else "never",
            config=dict(flat(config)),
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}
