"""Fill a table: python recipes/table.py NAME [--jobs J] [--methods M ...] [--sets S ...] [--smoke] [--only-report].

A table is a plan, recipes/tables/NAME.toml: methods, data sets, published scores, and how a cell is trained and
evaluated. Data are made, and kept in the cache, by the names that `reverie data list` shows. A cell is a run's folder,
OUT/NAME/METHOD/SET: what is trained is not trained again, and what was stopped goes on from its last checkpoint. What
the table needs of the runs is kept in recipes/results/NAME.json; the table, OUT/NAME/table.md, with the commands that
remake each cell, and its pictures are made from that file alone.
"""

import argparse
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tabling import plans, results
from tabling.plans import Plan
from tabling.report import Report
from tabling.view import View
from tabling.work import State, Worker

from reverie.engines import Kind, engine

RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> None:
    known = plans.everyone()
    options = parser(known).parse_args(arguments)
    whole = known[options.name]
    try:
        plan = whole.restricted(options.methods, options.sets).with_data(dict(options.data))
    except ValueError as error:
        sys.exit(f"table.py: {error}")
    if options.smoke:
        whole, plan = whole.smoke(), trial(plan, options.sets)
        plan, options.results = replace(plan, name=f"{plan.name}-smoke"), options.out / f"{plan.name}-smoke"
    path = options.results / f"{plan.name}.json"
    faults = {} if options.only_report else work(plan, whole, options, path)
    folder = options.out / plan.name
    print(Report(plan, results.gather(plan, whole, options.out, path)).write(folder))
    print(f"Written to {folder}, from {path}.", file=sys.stderr)
    if faults:
        sys.exit("\n".join(["Not everything is done:", *(f"  {label}: {fault}" for label, fault in faults.items())]))


def trial(plan: Plan, sets: list[str] | None) -> Plan:
    """Tiny cells of the first set, and of the first for each synthesizer, unless sets are named."""
    firsts: dict[str, str] = {}
    for name, each in plan.sets.items():
        firsts.setdefault(each.made_by, name)
    return plan.restricted(None, sets or list(firsts.values())).smoke()


def work(plan: Plan, whole: Plan, options: argparse.Namespace, path: Path) -> dict[str, str]:
    """Do what is missing, and keep each result as soon as it is there; what failed, and why."""
    state, minutes = State(), options.minutes or plan.minutes
    view = View(plan, options.out, state, minutes, options.jobs)

    def tell(task: object) -> None:
        if not sys.stderr.isatty():
            print(view.line(task), file=sys.stderr, flush=True)

    def keep() -> None:
        results.gather(plan, whole, options.out, path)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cluster = None if options.engine == "local" else engine(options.engine, options.jobs)
        view.follow(lambda: Worker(minutes, state, tell, keep, cluster).work(plan, options.out, options.jobs))
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on where it was.")
    return state.faults


def parser(known: dict[str, Plan]) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=f"{__doc__}\nTables:\n{listed(known)}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("name", choices=known, metavar="NAME")
    made.add_argument("--out", type=Path, default=plans.OUT, help=f"folder of the runs; {plans.OUT} if not given")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the small files that are kept")
    made.add_argument("--methods", nargs="+", metavar="METHOD", help="all of the plan if not given")
    made.add_argument("--sets", nargs="+", metavar="SET", help="all of the plan if not given")
    made.add_argument("--data", nargs="+", type=place, default=[], metavar="NAME=SOURCE", help="your own data for NAME")
    made.add_argument(
        "--minutes", type=positive(float), help="stop a cell's training after so long; the plan's if not given"
    )
    made.add_argument("--jobs", type=positive(int), default=1, help="cells at once, each on its share of the cores")
    made.add_argument(
        "--engine",
        choices=get_args(Kind),
        default="local",
        help="where cells run",
    )
    made.add_argument("--smoke", action="store_true", help="a few updates of the first set's cells, to try everything")
    made.add_argument("--only-report", action="store_true", help="write the table of what is there")
    return made


def listed(known: dict[str, Plan]) -> str:
    """A line a table."""
    width = max(map(len, known))
    return "\n".join(
        f"  {name:{width}}  {plan.title} ({len(plan.cells())} cells, about {plan.hours():.0f} hours of one job)"
        for name, plan in known.items()
    )


def place(text: str) -> tuple[str, str]:
    name, equals, source = text.partition("=")
    if not (name and equals and source):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=SOURCE, such as hopper-medium=d4rl:my.hdf5")
    return name, source


def positive(kind: type) -> object:
    def read(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text} must be above 0")
        return value

    read.__name__ = kind.__name__  # which argparse shows
    return read


if __name__ == "__main__":
    main()
