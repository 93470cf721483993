"""The `reverie` command. Each verb is a function whose arguments are its options; tyro makes the parser of it."""

import ast
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from reverie.errors import ReverieError, ReverieWarning

USAGE = """\
reverie: diffusion and flow models in reinforcement learning

  reverie list                              every algorithm: role, paper, what it needs
  reverie train ALGORITHM --data SOURCE --steps N [--seeds S] [--out FOLDER] [--FIELD VALUE ...]
  reverie train --resume FOLDER             go on with a run that was stopped
  reverie online sac --env NAME --steps N   learn in an environment; --synthesizer synther fills half of each batch
  reverie eval FOLDER --env NAME            returns, lengths, success and their intervals
  reverie two-sample FOLDER --data SOURCE   how well its actions can be told from the data's
  reverie generate FOLDER -n N --out TARGET data from a synthesizer's run
  reverie fidelity SOURCE --real SOURCE     how true synthetic data is; with --env NAME to the simulator too
  reverie plot FOLDER                       learning curves of a run
  reverie data list                         the sources, and the sets that are generated here
  reverie data info SOURCE
  reverie data make NAME --out TARGET [--steps N] [--seed S]
  reverie demo                              learn to plan in a maze, in minutes

  reverie COMMAND --help lists the options of a command, and `train ALGORITHM --help` every field of a method.
  Compiled programs are kept in ${REVERIE_CACHE:-~/.cache/reverie}/xla; JAX_ENABLE_COMPILATION_CACHE=false keeps none.
"""


@dataclass(frozen=True)
class TrainOptions:
    """How to train; the rest of the options are the algorithm's own fields."""

    data: str
    """Source: d4rl:FILE.hdf5, minari:ID, ogbench:FILE.npz, a name from `reverie data list`, or several joined by +."""
    steps: int
    """Updates of each seed."""
    out: Path | None = None
    """The run's folder; runs/ALGORITHM-DATA if not given."""
    seeds: int = 1
    """Seeds trained by the same program."""
    seed: int = 0
    """The first seed's number."""
    segment: int | None = None
    """Updates between two looks from the host, and in a row of the metrics; chosen from the steps if not given."""
    checkpoint_every: int | None = None
    """Updates between two checkpoints; one a minute if not given."""
    devices: int = 1
    """Devices that share each batch."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""
    resume: bool = False
    """Go on with the run in the folder if there is one, with the same configuration."""


def train(arguments: Sequence[str]) -> None:
    import reverie
    from reverie import catalogue

    if arguments and arguments[0].split("=")[0] == "--resume":
        tyro.cli(_resume, args=arguments, prog="reverie train")
        return
    if not arguments or arguments[0].startswith("-"):
        raise ReverieError(
            f"train needs the name of an algorithm first, one of {', '.join(catalogue.ALGORITHMS)}; "
            "see `reverie train ALGORITHM --help`, or use `reverie train --resume FOLDER`"
        )
    cls: Any = catalogue.find(arguments[0])

    @tyro.conf.configure(tyro.conf.OmitArgPrefixes)
    def parse(options: TrainOptions, algorithm: cls) -> tuple[TrainOptions, Any]:  # type: ignore[valid-type]
        return options, algorithm

    parse.__doc__ = f"Train {cls.name} ({cls.role}; {cls.paper}). It needs: {', '.join(cls.needs)}."
    options, algorithm = tyro.cli(parse, args=arguments[1:], prog=f"reverie train {arguments[0]}")
    out = options.out or Path("runs") / f"{cls.name}-{Path(options.data.split(':')[-1]).stem}"
    run = reverie.fit(
        algorithm,
        reverie.load_dataset(options.data),
        out=out,
        **{name: getattr(options, name) for name in vars(options) if name not in ("data", "out")},
    )
    _finish(run)


@dataclass(frozen=True)
class OnlineOptions:
    """Where to learn; the rest of the options say how to gather, and are the algorithm's own fields."""

    env: str
    """A Gymnasium id such as Hopper-v5."""
    out: Path | None = None
    """The run's folder; runs/ALGORITHM-ENV if not given."""
    seeds: int = 1
    """Seeds, each with environments and a replay of its own."""
    seed: int = 0
    """The first seed's number."""
    resume: bool = False
    """Go on with the run in the folder if there is one, with the same configuration."""
    synthesizer: str | None = None
    """Fill a share of each batch by this method, trained on the replay now and then: synther."""


def online(arguments: Sequence[str]) -> None:
    import reverie
    from reverie import catalogue
    from reverie.training import Online, Synthesis

    if not arguments or arguments[0].startswith("-"):
        raise ReverieError("online needs the name of an algorithm first, such as sac; see `reverie online sac --help`")
    name, *rest = arguments
    cls: Any = catalogue.find(name)
    maker: Any = catalogue.find(_value_of("--synthesizer", rest) or "synther")
    plain, prefixed = tyro.conf.arg(name=""), tyro.conf.arg(name="synthesizer")

    def parse(
        options: Annotated[OnlineOptions, plain],
        gathering: Annotated[Online, plain],
        algorithm: Annotated[cls, plain],  # type: ignore[valid-type]
        synthesis: Synthesis = Synthesis(),
        made_by: Annotated[maker, prefixed] = maker(),  # type: ignore[valid-type]
    ) -> tuple[OnlineOptions, Online, Any, Synthesis, Any]:
        return options, gathering, algorithm, synthesis, made_by

    parse.__doc__ = f"Let {cls.name} ({cls.paper}) learn in an environment, alone or with the help of synthetic data."
    options, gathering, algorithm, synthesis, made_by = tyro.cli(parse, args=rest, prog=f"reverie online {name}")
    out = options.out or Path("runs") / f"{cls.name}-{options.env}"
    run = reverie.fit_online(
        algorithm,
        options.env,
        seeds=options.seeds,
        seed=options.seed,
        out=out,
        resume=options.resume,
        synthesizer=made_by if options.synthesizer else None,
        synthesis=synthesis,
        **vars(gathering),
    )
    path = _draw(run)
    print(f"{run.name}: {run.step} steps of {len(run.seeds)} seed(s) in {run.path}; curves in {path}")


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if argument.split("=")[0] == flag:
            return argument.partition("=")[2] or following
    return None


def _resume(resume: Path, data: str | None = None, steps: int | None = None) -> None:
    """Go on with a run that was stopped.

    Args:
        resume: the run's folder.
        data: source of the data, where the recorded one has moved.
        steps: updates to end at, where more are wanted than were first asked for.
    """
    import reverie

    _finish(reverie.resume(resume, None if data is None else reverie.load_dataset(data), steps))


def _finish(run: Any) -> None:
    path = _draw(run)
    print(f"{run.algorithm.name}: {run.step} updates of {len(run.seeds)} seed(s) in {run.path}; curves in {path}")


def _draw(run: Any) -> Path:
    from reverie.evaluation.plots import learning_curves, save

    return save(learning_curves(run.metrics()), run.path / "plots" / "learning.png")


def plot(run: tyro.conf.Positional[Path]) -> None:
    """Draw the learning curves of a run into its folder.

    Args:
        run: the run's folder.
    """
    import reverie

    print(_draw(reverie.load(run)))


def evaluate(
    run: tyro.conf.Positional[Path],
    env: str,
    episodes: int = 20,
    seed: int = 0,
    max_steps: int | None = None,
    acting: tuple[str, ...] = (),
) -> None:
    """Let every seed of a run act, print the scores and keep them in the run's evaluation.json.

    Args:
        run: the run's folder.
        env: a Gymnasium id such as Hopper-v5, or pointmaze-umaze, pointmaze-medium, pointmaze-large.
        episodes: for each seed.
        seed: of the starts.
        max_steps: cut episodes after so many steps.
        acting: fields of the algorithm to change in acting, as FIELD=VALUE: candidates=8 solver=ddim.
    """
    import reverie

    changed = reverie.load(run).acting(**dict(map(_assignment, acting)))
    _show(reverie.evaluate(changed, env, episodes, seed, max_steps).table())


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ReverieError(f"{text!r} is no FIELD=VALUE, such as candidates=8")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def two_sample(
    run: tyro.conf.Positional[Path],
    data: str,
    rows: int = 10_000,
    seed: int = 0,
    blur: float = 0.0,
    acting: tuple[str, ...] = (),
) -> None:
    """Train a classifier to tell a run's actions from the data's, and print its accuracy on others: 50 % is perfect.

    Args:
        run: the run's folder.
        data: source of the data.
        rows: pairs of an observation and an action of each kind, for training the classifier and again for judging.
        seed: of the choice of rows and of the classifier.
        blur: deviation of noise on both kinds of action, to hide what is finer.
        acting: fields of the algorithm to change in acting, as FIELD=VALUE: stochastic=True for bc.
    """
    import reverie
    from reverie.evaluation import two_sample

    changed = reverie.load(run).acting(**dict(map(_assignment, acting)))
    found = two_sample(changed, reverie.load_dataset(data), rows, seed=seed, blur=blur)
    cells = [(str(s), f"{100 * accuracy:.1f} %") for s, accuracy in zip(changed.seeds, found.accuracy, strict=True)]
    cells.append(("mean", f"{100 * found.mean:.1f} %"))
    _show(_table(("seed", "told apart"), cells))
    print(f"50 % where nothing can be told; then one seed's deviation from it is {100 * found.noise:.1f} %.")


def fidelity(
    made: tyro.conf.Positional[str],
    real: str,
    env: str | None = None,
    rows: int = 2000,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Measure how true synthetic transitions are: marginals, correlations, ends, copies, and dynamics in the simulator.

    Args:
        made: source of the synthetic data.
        real: source of the data that it was made from.
        env: the data's environment, such as Hopper-v5, for the dynamics.
        rows: of each kind that are judged.
        seed: of their choice.
        out: a picture of all marginals, as a PNG.
    """
    import reverie
    from reverie.evaluation import fidelity as measure

    synthetic, truth = reverie.load_dataset(made), reverie.load_dataset(real)
    _show(_table(("measure", "synthetic", "held-out real"), measure(synthetic, truth, env, rows, seed).rows()))
    if out:
        from reverie.evaluation.plots import draw_marginals, save

        print(f"picture: {save(draw_marginals(truth, synthetic), out)}")


def generate(
    run: tyro.conf.Positional[Path],
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])],
    out: str,
    seed: int | None = None,
    key: int = 0,
    acting: tuple[str, ...] = (),
) -> None:
    """Write data made by a synthesizer's run. What was killed goes on where it was by the same command.

    Args:
        run: the run's folder.
        n: rows to generate.
        out: d4rl:FILE.hdf5, written as it is made, or minari:ID for some thousands of rows.
        seed: which of the run's seeds generates; the first if not given.
        key: another key makes other data.
        acting: fields of the algorithm to change in generating, as FIELD=VALUE: calls=63 chunk=10000.
    """
    import reverie

    reverie.load(run).acting(**dict(map(_assignment, acting))).write(out, n, seed, key)
    print(f"{n} steps in {out}")


def list_algorithms() -> None:
    """Every algorithm: role, paper, what it needs."""
    from reverie.catalogue import ALGORITHMS

    rows = [(cls.name, cls.role, cls.paper, ", ".join(cls.needs) or "actions alone") for cls in ALGORITHMS.values()]
    _show(_table(("algorithm", "role", "paper", "needs"), rows))


def data_list() -> None:
    """The kinds of source, and the sets that are generated here."""
    from reverie.environments import DATASETS

    kinds = [
        ("d4rl:FILE.hdf5", "a file in D4RL's layout"),
        ("minari:ID", "a Minari data set, local or from its server"),
        ("ogbench:FILE.npz", "a file of OGBench"),
        ("SOURCE+SOURCE", "several of one task, such as real and synthetic data"),
    ]
    generated = [
        (name, f"generated here, {entry.steps:,} steps: {entry.description}") for name, entry in DATASETS.items()
    ]
    _show(_table(("source", "what it is"), kinds + generated))


def data_info(source: tyro.conf.Positional[str]) -> None:
    """Sizes, returns and attributes of a data set.

    Args:
        source: as `reverie data list` shows.
    """
    import reverie

    summary = reverie.load_dataset(source).summary()
    attributes = summary.pop("attributes", {})
    _show(_table((source, ""), [(key, _in_words(value)) for key, value in (summary | attributes).items()]))


def _in_words(value: Any) -> str:
    """Numbers to six digits, and what holds several of them without its brackets where names tell them apart."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_words, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def data_make(name: tyro.conf.Positional[str], out: str, steps: int | None = None, seed: int = 0) -> None:
    """Generate a data set and write it.

    Args:
        name: as `reverie data list` shows.
        out: d4rl:FILE.hdf5 or minari:ID.
        steps: environment steps; the set's own number if not given.
        seed: same seed, same data.
    """
    from reverie.data.sources import check_target
    from reverie.environments import make_dataset

    check_target(out)
    data = make_dataset(name, steps=steps, seed=seed, progress=True)
    data.save(out)
    print(f"{len(data):,} steps in {out}")


def demo(out: Path = Path("demo"), seed: int = 0) -> None:
    """Learn to plan in a maze from trajectories of a simulator, and drive through it: about 5 minutes on 2 cores.

    Args:
        out: folder for the run and the pictures.
        seed: of the data, the training and the evaluation.
    """
    from reverie.demo import run

    run(out, seed)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    table = Table(*head)
    for row in rows:
        table.add_row(*row)
    return table


def _show(table: Any) -> None:
    from rich.console import Console

    Console().print(table)


def _verb(function: Callable) -> Callable[[Sequence[str], str], None]:
    return lambda arguments, name: tyro.cli(function, args=arguments, prog=name)


def _data(arguments: Sequence[str], name: str) -> None:
    _dispatch(DATA_VERBS, arguments, name)


DATA_VERBS = {"list": _verb(data_list), "info": _verb(data_info), "make": _verb(data_make)}
VERBS: dict[str, Callable[[Sequence[str], str], None]] = {
    "list": _verb(list_algorithms),
    "train": lambda arguments, name: train(arguments),
    "online": lambda arguments, name: online(arguments),
    "eval": _verb(evaluate),
    "two-sample": _verb(two_sample),
    "fidelity": _verb(fidelity),
    "generate": _verb(generate),
    "plot": _verb(plot),
    "data": _data,
    "demo": _verb(demo),
}


COMPILING = ("train", "online", "eval", "two-sample", "generate", "data", "demo")
"""The verbs whose programs are kept for the next time."""


def _run(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] in COMPILING:
        from reverie.compilation import use_compilation_cache

        use_compilation_cache()
    _dispatch(VERBS, arguments, "reverie")


def _dispatch(verbs: dict, arguments: Sequence[str], name: str) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
    elif arguments[0] not in verbs:
        raise ReverieError(f"{arguments[0]!r} is no command of `{name}`; there are {', '.join(verbs)}")
    else:
        verbs[arguments[0]](arguments[1:], f"{name} {arguments[0]}")


def _warn(
    message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    ours = issubclass(category, ReverieWarning)
    text = f"reverie: {message}\n" if ours else warnings.formatwarning(message, category, filename, lineno, line)
    print(text, end="", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0, 2 for an error of the user's, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if os.environ.get("REVERIE_TRACEBACK"):  # for those who mend reverie itself
        _run(arguments)
        return 0
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            _run(arguments)
    except (ReverieError, OSError) as error:
        print(f"reverie: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
