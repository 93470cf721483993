"""The verbs that train, and show how it went: train, online, plot, compare."""

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import reverie
from reverie import catalogue
from reverie.cli.show import draw, show, table
from reverie.errors import DivergenceError, ReverieError
from reverie.evaluation import Evaluate
from reverie.training import Synthesis, hosts
from reverie.training.settings import settings_of

Tool = Literal["tensorboard", "wandb", "mlflow", "trackio"]


@dataclass(frozen=True)
class Evaluation:
    """How to evaluate while training."""

    evaluate_every: int | None = None
    """Updates (online: environment steps) between two evaluations, whose scores are columns of the metrics and curves;
    never if not given."""
    episodes: int = 10
    """Of each seed in an evaluation while training."""
    max_steps: int | None = None
    """After which these episodes are cut."""

    def callbacks(self, env: str | None) -> tuple[Evaluate, ...]:
        if self.evaluate_every is None:
            return ()
        if env is None:
            raise ReverieError(f"--evaluate-every {self.evaluate_every} needs --env, where the run is to act.")
        return (Evaluate(env, self.evaluate_every, self.episodes, max_steps=self.max_steps),)


@dataclass(frozen=True)
class TrainOptions:
    """How to train; the rest of the options are the algorithm's own fields."""

    data: str
    """Source: d4rl:FILE.hdf5, minari:ID, ogbench:FILE.npz, robomimic:FILE.hdf5, lerobot:FOLDER,
    parquet:FOLDER, a name from `reverie data list`, or several joined by +; @best=0.1 after one of them keeps the tenth
    of its episodes with the highest returns, @every=10 every tenth one, @times=20 repeats it twenty times, @chunk=4
    makes four actions in a row one."""
    steps: int
    """Updates of each seed."""
    out: Path | None = None
    """The run's folder; runs/ALGORITHM-DATA if not given."""
    seeds: int = 1
    """Seeds trained by the same program."""
    seed: int = 0
    """The first seed's number."""
    initial: Path | None = None
    """Folder of a run to begin from: fine-tuning."""
    env: str | None = None
    """Where to evaluate while training, a Gymnasium id such as Hopper-v5."""
    segment: int | None = None
    """Updates between two looks from the host, and in a row of the metrics; chosen from the steps if not given."""
    checkpoint_every: int | None = None
    """Updates between two checkpoints; one a minute if not given."""
    devices: int | None = None
    """Devices that train; if not given all with --distributed, as many cores as the seeds divide among equally, or one
    accelerator."""
    distributed: bool = False
    """This is one of several processes that a launcher started to train the run together: srun, mpirun, torchrun, or
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment."""
    host_data: bool = False
    """Keep the data in the host's memory, where the device lacks the room."""
    shard_data: bool = False
    """Divide the data among the devices, each of which has all of them otherwise; of a stream, each process reads its
    own files."""
    stream: bool = False
    """Read the data, parquet:FOLDER, a block at a time while training: they may be larger than the memory."""
    block_rows: int | None = None
    """Of a stream, rows that are trained on at a time, about; as many as take 64 MB if not given."""
    block_updates: int | None = None
    """Of a stream, updates on a block, whole segments; as many as draw each row once on average if not given."""
    loggers: tuple[Tool, ...] = ()
    """Where else the metrics go; each needs its extra, and has its own environment variables."""
    resume: bool = False
    """Go on with the run in the folder if there is one, with the same configuration."""
    settings: Path | None = None
    """A JSON file, {NAME: {FIELD: NUMBER, ...}, ...}: several settings to train in one program, each in a folder NAME
    in that of the run."""


PASSED = (
    *("steps", "seeds", "seed", "segment", "checkpoint_every", "devices", "host_data", "shard_data", "block_updates"),
    "loggers",
    "resume",
)
"""Options that `fit` takes as they are."""


def train(arguments: Sequence[str]) -> None:
    if arguments and arguments[0].split("=")[0] == "--resume":
        tyro.cli(go_on, args=arguments, prog="reverie train")
        return
    if not arguments or arguments[0].startswith("-"):
        raise ReverieError(
            f"train needs the name of an algorithm first, one of {', '.join(catalogue.ALGORITHMS)}, or module:Class; "
            "see `reverie train ALGORITHM --help`, or use `reverie train --resume FOLDER`"
        )
    cls: Any = catalogue.find(arguments[0])

    @tyro.conf.configure(tyro.conf.OmitArgPrefixes)
    def parse(options: TrainOptions, evaluation: Evaluation, algorithm: cls) -> tuple:  # type: ignore[valid-type]
        return options, evaluation, algorithm

    needs = ", ".join(cls.needs) or "actions alone"
    parse.__doc__ = f"Train {cls.name} ({cls.role}; {cls.paper}). It needs: {needs}."
    options, evaluation, algorithm = tyro.cli(parse, args=arguments[1:], prog=f"reverie train {arguments[0]}")
    if options.distributed:
        hosts.join()
    out = (
        options.out
        or Path("runs") / f"{cls.name}-{re.sub(r'[.](hdf5|npz)', '', Path(options.data.split(':')[-1]).name)}"
    )
    if options.settings is not None:
        _train_many(algorithm, options, evaluation, out)
        return
    run = reverie.fit(
        algorithm,
        hosts.in_turn(lambda: _data(options)),
        out=out,
        initial=options.initial and reverie.load(options.initial),
        callbacks=evaluation.callbacks(options.env),
        **{name: getattr(options, name) for name in PASSED},
    )
    _finish(run)


ALONE = ("initial", "distributed", "stream", "block_rows", "block_updates", "loggers")
"""Options that are not for several settings."""


def _train_many(algorithm: Any, options: TrainOptions, evaluation: Evaluation, out: Path) -> None:
    """Raises ReverieError where an option is not for several settings, and DivergenceError in the end for those that
    diverged."""
    told = {name: getattr(options, name) for name in ALONE} | {"evaluate_every": evaluation.evaluate_every}
    if given := [name for name, value in told.items() if value]:
        raise ReverieError(f"--{given[0].replace('_', '-')} is not for several --settings; train them apart.")
    known = {name: getattr(options, name) for name in PASSED if name not in ALONE}
    named, data = _settings(algorithm, options.settings), reverie.load_dataset(options.data)
    runs = reverie.fit_many(named, data, out=out, **known)
    for run in runs:
        if not isinstance(run, DivergenceError):
            _finish(run)
    if lost := [name for name, run in zip(named, runs, strict=True) if isinstance(run, DivergenceError)]:
        raise DivergenceError(f"{len(lost)} of {len(named)} settings diverged, as said above: {', '.join(lost)}.")


def _settings(algorithm: Any, path: Any) -> dict[str, Any]:
    """The algorithm with each of the settings of a JSON file. Raises ReverieError for what is none."""
    wanted = 'such as {"slow": {"tau": 0.005}, "fast": {"tau": 0.02}}'
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ReverieError(f"{str(path)!r} cannot be read ({error.strerror}); give a JSON file, {wanted}.") from None
    except ValueError as error:
        raise ReverieError(f"{str(path)!r} is not JSON ({error}); write it {wanted}.") from None
    if not isinstance(found, dict) or not found or not all(isinstance(each, dict) for each in found.values()):
        raise ReverieError(f"{str(path)!r} has no settings by name; write it {wanted}.")
    fields = {field.name for field in dataclasses.fields(algorithm)}
    for name, values in found.items():
        if unknown := values.keys() - fields:
            raise ReverieError(f"{algorithm.name} has no field {min(unknown)!r}, as {name!r} of {str(path)!r} wants.")
        found[name] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return {name: dataclasses.replace(algorithm, **values) for name, values in found.items()}


def _data(options: TrainOptions) -> Any:
    if options.stream:
        return reverie.stream(options.data, options.block_rows)
    if options.block_rows is not None:
        raise ReverieError(f"--block-rows {options.block_rows} is of a stream; give --stream as well.")
    return reverie.load_dataset(options.data)


def go_on(
    resume: Path,
    data: str | None = None,
    steps: int | None = None,
    env: str | None = None,
    devices: int | None = None,
    distributed: bool = False,
    evaluation: Annotated[Evaluation, tyro.conf.arg(name="")] = Evaluation(),
) -> None:
    """Go on with a run that was stopped.

    Args:
        resume: the run's folder.
        data: source of the data, where the recorded one has moved.
        steps: updates (online: environment steps) to end at, where more are wanted than were first asked for.
        env: where to evaluate while training.
        devices: that train from now on; as before if not given, all with --distributed.
        distributed: this is one of several processes that go on with it together, as many as there are now.
        evaluation: while training.
    """
    if distributed:
        hosts.join()
    callbacks = evaluation.callbacks(env)
    _finish(reverie.resume(resume, data, steps, devices=devices, callbacks=callbacks))


def _finish(run: Any) -> None:
    if not hosts.first():
        return
    unit = "environment steps" if run.histories else "updates"
    print(f"{run.algorithm.name}: {run.step} {unit} of {len(run.seeds)} seed(s) in {run.path}; curves in {draw(run)}")


@dataclass(frozen=True)
class OnlineOptions:
    """Where to learn; the rest of the options say how to collect, and are the algorithm's own fields."""

    env: str
    """A Gymnasium id such as Hopper-v5."""
    out: Path | None = None
    """The run's folder; runs/ALGORITHM-ENV if not given."""
    seeds: int = 1
    """Seeds, each with environments and a replay of its own."""
    seed: int = 0
    """The first seed's number."""
    initial: Path | None = None
    """Folder of a run to begin from, such as one that was trained on a data set."""
    data: str | None = None
    """Source of a data set beside the replay, from which --data-share of each batch is drawn."""
    resume: bool = False
    """Go on with the run in the folder if there is one, with the same configuration."""
    loggers: tuple[Tool, ...] = ()
    """Where else the metrics go; each needs its extra, and has its own environment variables."""
    synthesizer: str | None = None
    """Fill a part of each batch by this method, trained on the replay now and then: synther."""


def online(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        raise ReverieError("online needs the name of an algorithm first, such as sac; see `reverie online sac --help`")
    name, *rest = arguments
    cls: Any = catalogue.find(name)
    maker: Any = catalogue.find(_value_of("--synthesizer", rest) or "synther")
    way: Any = settings_of(cls)
    plain, prefixed = tyro.conf.arg(name=""), tyro.conf.arg(name="synthesizer")

    def parse(
        options: Annotated[OnlineOptions, plain],
        collecting: Annotated[way, plain],  # type: ignore[valid-type]
        algorithm: Annotated[cls, plain],  # type: ignore[valid-type]
        evaluation: Annotated[Evaluation, plain] = Evaluation(),
        synthesis: Synthesis = Synthesis(),
        made_by: Annotated[maker, prefixed] = maker(),  # type: ignore[valid-type]
    ) -> tuple[OnlineOptions, Any, Any, Evaluation, Synthesis, Any]:
        return options, collecting, algorithm, evaluation, synthesis, made_by

    parse.__doc__ = f"Let {cls.name} ({cls.paper}) learn in an environment, alone or with the help of synthetic data."
    options, collecting, algorithm, *more = tyro.cli(parse, args=rest, prog=f"reverie online {name}")
    evaluation, synthesis, made_by = more
    run = reverie.fit_online(
        algorithm,
        options.env,
        seeds=options.seeds,
        seed=options.seed,
        out=options.out or Path("runs") / f"{cls.name}-{options.env}",
        resume=options.resume,
        initial=options.initial and reverie.load(options.initial),
        data=options.data and reverie.load_dataset(options.data),
        synthesizer=made_by if options.synthesizer else None,
        synthesis=synthesis,
        callbacks=evaluation.callbacks(options.env),
        loggers=options.loggers,
        **vars(collecting),
    )
    _finish(run)


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    for argument, value in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument.split("=")[0] == flag:
            return argument.partition("=")[2] or value
    return None


def plot(run: tyro.conf.Positional[Path]) -> None:
    """Draw the learning curves of a run into its folder.

    Args:
        run: the run's folder.
    """
    print(draw(reverie.load(run)))


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]], metrics: tuple[str, ...] = (), out: Path | None = None
) -> None:
    """Put runs beside each other: the settings in which they differ, their scores, their metrics at the end.

    Args:
        runs: folders of two runs or more, which may still be training; the others are compared with the first.
        metrics: to show; those that two of them or more have, unless given.
        out: FILE.html, a page with the learning curves too, or a picture of these alone, FILE.png, .pdf or .svg.
    """
    from reverie.evaluation import comparing
    from reverie.evaluation.plots import save

    found = comparing.compare(runs)
    tables = comparing.settings_table(found), comparing.scores_table(found), comparing.metrics_table(found, metrics)
    for head, rows in tables:
        if rows:
            show(table(head, rows))
    if out is None:
        return
    figure = comparing.draw(found, metrics)
    if out.suffix == ".html":
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(comparing.page(found, figure, metrics))
    else:
        save(figure, out)
    print(f"{'page' if out.suffix == '.html' else 'picture'}: {out}")
