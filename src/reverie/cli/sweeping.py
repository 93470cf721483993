"""The verb that tries many settings: sweep."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tyro

from reverie import catalogue
from reverie.cli.show import in_words, show, table
from reverie.engines import Kind
from reverie.errors import ReverieError
from reverie.evaluation.scores import MEASURES
from reverie.sweeps import Choices, Sweep, Trial, best, parse, results, rows, running
from reverie.sweeps.space import Search
from reverie.sweeps.trials import Work
from reverie.training.settings import settings_of


@dataclass(frozen=True)
class SweepOptions:
    """What to try, and how each trial is trained and scored. Arguments after -- are those of every training."""

    methods: tyro.conf.Positional[tuple[str, ...]]
    """Algorithms; several are searched over."""
    steps: int
    """Updates of each seed (with --online, environment steps)."""
    data: tuple[str, ...] = ()
    """Sources, as `train` takes them; several are searched over."""
    over: tuple[str, ...] = ()
    """Fields to search: NAME=VALUE,VALUE,... or NAME=LOW..HIGH or NAME=log:LOW..HIGH, as in tau=0.005,0.02
    learning_rate=log:1e-5..1e-3 hidden=[64,64],[256,256]; steps too."""
    env: str | None = None
    """Where every trial is evaluated (with --online, where it learns too)."""
    episodes: int = 20
    """Of each seed."""
    seeds: int = 1
    """Of each trial, trained by the same program."""
    online: bool = False
    """Learn in --env instead of from data."""
    search: Search = "grid"
    """All of a grid, draws at random, or Optuna's proposals (the extra `sweep`)."""
    trials: int | None = None
    """To try; the whole grid if not given."""
    seed: int = 0
    """Of the search."""
    by: str | None = None
    """The score: normalised, success or return of the evaluation, the first one there is; or a metric at the end."""
    lowest: bool = False
    """The best score is the lowest, as of a loss."""
    retries: int = 2
    """Times that a process which died is started again, to go on from its checkpoint."""
    together: int = 1
    """Trials at most that one program trains, where they differ in fields of type float alone, such as tau."""
    jobs: int = 1
    """Trials at a time; on this machine they share its cores."""
    engine: Kind = "local"
    """Processes of this machine, or the Ray cluster that RAY_ADDRESS names (the extra `ray`)."""
    out: Path = Path("runs/sweep")
    """The sweep's folder: sweep.json, trials/, runs/, logs/, and results.parquet (.csv without pyarrow)."""


def sweep(arguments: Sequence[str]) -> None:
    own, more = _split(arguments)
    options = tyro.cli(SweepOptions, args=own, prog="reverie sweep", description=SweepOptions.__doc__)
    asked = asked_of(options, more)
    trials = running.sweep(asked, options.out, jobs=options.jobs, engine=options.engine)
    show(table(*results_table(trials, options.lowest)))
    if (found := best(trials, options.lowest)) is None:
        raise ReverieError(
            f"None of {len(trials)} trials was trained; their output is in {options.out / running.LOGS}."
        )
    print(f"All of them in {results.write(trials, options.out)}.\n{told(asked, found, trials, options)}")


def _split(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    given = list(arguments)
    at = given.index("--") if "--" in given else len(given)
    return given[:at], tuple(given[at + 1 :])


def asked_of(options: SweepOptions, more: tuple[str, ...]) -> Sweep:
    """Raises ReverieError where something is missing, and for a field that a method does not have."""
    if not options.methods:
        raise ReverieError("sweep needs the name of an algorithm first, such as td3-bc; see `reverie sweep --help`")
    if options.online and options.env is None:
        raise ReverieError("--online needs --env, where the agents learn.")
    if not options.online and not options.data:
        raise ReverieError("sweep needs --data, or --online with --env.")
    if options.env is None and options.by is None:
        raise ReverieError("Say how trials are scored: --env, where they are evaluated, or --by METRIC.")
    if options.together < 1 or (options.online and options.together > 1):
        raise ReverieError(f"--together {options.together} must be at least 1, and 1 with --online.")
    space = parse(options.over)
    for name, values in (("method", options.methods), ("data", options.data)):
        if name in space:
            raise ReverieError(f"--over {name}=...: give several {name}s as such, not by --over.")
        if len(values) > 1:
            space = {name: Choices(values), **space}
    for method in options.methods:
        cls = catalogue.find(method)
        known = {"method", "data", "steps", *(field.name for field in fields(cls))}
        known |= {field.name for field in fields(settings_of(cls))} if options.online else set()
        if unknown := [name for name in space if name not in known]:
            raise ReverieError(f"{method} has no field {unknown[0]!r}; see `reverie train {method} --help`.")
    data = options.data[0] if options.data else ""
    work = Work(
        options.methods[0], data, options.steps, options.seeds, options.env, options.episodes, options.online, more
    )
    asked = (options.search, options.trials, options.seed, options.by, options.lowest, options.retries)
    return Sweep(space, work, *asked, options.together)


def results_table(trials: Sequence[Trial], lowest: bool) -> tuple[list[str], list[list[str]]]:
    """The best first; what failed last."""
    columns = rows(trials)
    worst = float("inf")
    keys = [worst if trial.score is None else trial.score if lowest else -trial.score for trial in trials]
    order = sorted(range(len(trials)), key=keys.__getitem__)
    shown = [name for name in columns if name not in ("low", "high", "attempts", "state", "why")]
    return [*shown, "95 % over seeds"], [
        [*(_cell(columns[name][i]) for name in shown), _interval(columns, i)] for i in order
    ]


def _cell(value: Any) -> str:
    return "–" if value is None else in_words(round(value, 4) if isinstance(value, float) and abs(value) > 1 else value)


def _interval(columns: dict[str, list[Any]], i: int) -> str:
    if columns["state"][i] == "failed":
        return columns["why"][i]
    low, high = columns["low"][i], columns["high"][i]
    return "–" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def told(asked: Sweep, found: Trial, trials: Sequence[Trial], options: SweepOptions) -> str:
    """The best one, by which rule, and what choosing it by its score does to that score."""
    words = " ".join(f"{name}={value}" for name, value in found.settings.items()) or "the only one"
    rule = f"the {'lowest' if asked.lowest else 'highest'} mean {asked.by or 'score'} of {len(trials)} trials"
    lines = [f"Best, by {rule}: {found.name} ({words}), {found.score:.4g}."]
    again = asked.work.evaluate(found, options.out.resolve(), seed=1)
    if len(trials) > 1 and again is not None and (asked.by is None or asked.by in MEASURES):
        status = running.run_reverie(1)(again, str(options.out / running.LOGS / f"{found.name}.txt"))
        if status == 0:
            fresh = results.scored(found, options.out.resolve(), asked.by, True)
            lines.append(
                f"Chosen by that score, it looks better than it is: from other starts {sum(fresh) / len(fresh):.4g}."
            )
    work = replace(asked.work, more=(*asked.work.more, "--seed", str(asked.work.seeds)))
    new = work.train([found], options.out)
    at = new.index("--resume")
    del new[at : at + 3]
    lines.append(f"For a score of its own, train new seeds: reverie {' '.join(new)}")
    return "\n".join(lines)
