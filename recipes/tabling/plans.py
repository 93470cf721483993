"""A plan is a table before it is filled: methods, data sets, and how a cell is trained and evaluated."""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "tables"
OUT = Path("runs/tables")
"""Where the commands that the table shows put their runs."""


@dataclass(frozen=True)
class Method:
    """A line of the table."""

    train: str
    """Arguments of `reverie train`, or online of `reverie online`, the algorithm first."""
    steps: int = 0
    """Updates (online: environment steps) of each seed, on sets that have none of their own; the plan's if 0."""
    expected: float = 5.0
    """Minutes that a cell takes, for the time left before one is done."""
    checkpoints: int = 0
    """Evaluations while training, for a method that acts slowly; the plan's if 0."""
    select: str = ""
    """What of each set, as it stands after a source: @best=0.1."""
    made_by: str = ""
    """A synthesizer, whose rows of each set are joined to it for this method."""
    label: str = ""
    """What documents call it, in Markdown; its name as code if not given."""
    differs: str = ""
    """From what is published, beyond the plan's own note."""
    only: Sequence[str] = ()
    """Sets that it is for, such as a variant's that is compared on one; all if not given."""


@dataclass(frozen=True)
class Set:
    """A column of the table."""

    env: str
    """Where its policies are evaluated."""
    source: str = ""
    """As `reverie` takes it. Where there is none, agents learn online, in the environment."""
    made_by: str = ""
    """A synthesizer of the plan, whose rows of the source are joined to it."""
    times: int = 1
    """How often the source's own episodes are repeated (@times=N) for the methods, and not for the synthesizer: for the
    share of them that the paper draws."""
    line: str = ""
    """If given, the table's line is this name of the data, and its columns are `panel` and method."""
    panel: str = ""
    steps: int = 0
    """In place of the plan's and the methods', if not 0, for a task that takes less than the others."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Further arguments of the training, by method."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Scores, by method."""
    only: Sequence[str] = ()
    """Methods that it is for, such as those that take goals; all if not given."""


@dataclass(frozen=True)
class Synthesizer:
    """What makes rows from a set."""

    train: str
    steps: int
    rows: int
    """To be made from each set."""
    generate: str = ""
    """Further arguments of `reverie generate`."""
    expected: float = 10.0
    smoke: str = ""
    """Further arguments of `reverie train` in a smoke test, where it has hardly been trained."""


@dataclass(frozen=True)
class Plan:
    """A table."""

    name: str
    title: str
    methods: Mapping[str, Method]
    sets: Mapping[str, Set]
    synthesizers: Mapping[str, Synthesizer] = field(default_factory=dict)
    score: str = "normalised"
    """What is shown, of `reverie eval`: normalised, success or best (reward of an episode), in per cent, or return."""
    beside: Sequence[str] = ()
    """Further measures that are shown: arrival (steps until the first success), success, normalised, return, ..."""
    baseline: str = ""
    """The line that the others are compared with."""
    steps: int = 0
    seeds: int = 4
    episodes: int = 20
    """Of each seed, of the last checkpoint."""
    checkpoints: int = 8
    """Evaluations while training, equally far from each other; the last one is at the end."""
    curve_episodes: int = 10
    """Of each seed in these."""
    tolerance: float = 2.0
    """Points of change in the last quarter that count as none."""
    minutes: float = 45.0
    """After which a cell's training is stopped."""
    max_steps: int | None = None
    """After which episodes are cut."""
    note: str = ""
    """What differs from what is published, and what else a reader must know."""
    trial: str = "--batch-size 8 --segment 2"
    """Further arguments of every training in a smoke test."""
    small: str = ""
    """The same where this is one."""

    def cells(self, out: Path = OUT) -> list["Cell"]:
        return [
            Cell(self, method, name, out)
            for method, this in self.methods.items()
            for name, each in self.sets.items()
            if (not each.only or method in each.only) and (not this.only or name in this.only)
        ]

    def makings(self, out: Path = OUT) -> list["Making"]:
        """What synthesizers have to make for the cells, once each."""
        return list(dict.fromkeys(cell.making for cell in self.cells(out) if cell.making))

    def hours(self) -> float:
        """Expected of one job."""
        made = sum(self.synthesizers[making.synthesizer].expected for making in self.makings())
        return (made + sum(cell.expected for cell in self.cells())) / 60

    @property
    def online(self) -> bool:
        """Whether agents learn in environments, and steps are theirs."""
        return not any(each.source for each in self.sets.values())

    @property
    def unit(self) -> str:
        """What its steps count."""
        return "environment steps" if self.online else "updates"

    def named(self) -> list[str]:
        """The data sets that the library makes by their names, of all sources."""
        parts = [part for each in self.sets.values() for part in each.source.split("+")]
        return list(dict.fromkeys(part.partition("@")[0] for part in parts if part and ":" not in part))

    def restricted(self, methods: list[str] | None, sets: list[str] | None) -> "Plan":
        """To these, in this order; to all where None. Raises ValueError for one that is not there."""
        chosen = {}
        for what, names in (("methods", methods), ("sets", sets)):
            known = getattr(self, what)
            if unknown := [name for name in names or () if name not in known]:
                raise ValueError(f"there is no {unknown[0]!r} among the {what} {', '.join(known)}")
            chosen[what] = {name: known[name] for name in names or known}
        return replace(self, **chosen)

    def with_data(self, places: Mapping[str, str]) -> "Plan":
        """With other sources in place of names in the sets' own. Raises ValueError for a name that is in none."""
        sets = self.sets
        for name, place in places.items():
            pattern = re.compile(rf"(?<![\w:/-]){re.escape(name)}(?![\w-])")
            if not any(pattern.search(each.source) for each in sets.values()):
                raise ValueError(f"no set's source is {name!r}; the sources are {', '.join(self.named())}")
            sets = {
                key: replace(each, source=pattern.sub(lambda _, to=place: to, each.source))
                for key, each in sets.items()
            }
        return replace(self, sets=sets)

    def smoke(self) -> "Plan":
        """Of the same cells, each in seconds: whether everything works, and nothing about the methods."""
        tiny = {"seeds": 2, "episodes": 2, "curve_episodes": 2, "max_steps": 20, "steps": 16}
        methods = {name: replace(method, steps=16) for name, method in self.methods.items()}
        makers = {
            name: replace(each, train=f"{each.train} {each.smoke}".rstrip(), steps=16, rows=64)
            for name, each in self.synthesizers.items()
        }
        sets = {name: replace(each, steps=0) for name, each in self.sets.items()}
        return replace(self, **tiny, methods=methods, sets=sets, synthesizers=makers, small=self.trial)


@dataclass(frozen=True)
class Making:
    """The rows that a synthesizer makes from one source, in a file of their own."""

    plan: Plan = field(compare=False)
    synthesizer: str
    source: str
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / self.plan.name / "made" / self.synthesizer / re.sub(r"[^\w.-]+", "-", self.source)

    @property
    def file(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.hdf5")

    @property
    def label(self) -> str:
        return f"{self.synthesizer}'s rows of {self.source}"

    @property
    def steps(self) -> int:
        return self.plan.synthesizers[self.synthesizer].steps

    @property
    def expected(self) -> float:
        return self.plan.synthesizers[self.synthesizer].expected

    def train(self) -> list[str]:
        row = self.plan.synthesizers[self.synthesizer]
        words = [*row.train.split(), *self.plan.small.split(), "--data", self.source]
        return ["train", *words, "--steps", str(row.steps), "--out", str(self.folder), "--resume"]

    def generate(self) -> list[str]:
        row = self.plan.synthesizers[self.synthesizer]
        target = ("--out", f"d4rl:{self.file}")
        return ["generate", str(self.folder), "-n", str(row.rows), *target, *row.generate.split()]

    def commands(self) -> list[list[str]]:
        return [self.train(), self.generate()]


@dataclass(frozen=True)
class Cell:
    """One method on one data set: a run's folder."""

    plan: Plan
    method: str
    set: str
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / self.plan.name / self.method / self.set

    @property
    def label(self) -> str:
        return f"{self.method} on {self.set}"

    @property
    def line(self) -> str:
        return self.plan.sets[self.set].line or self.method

    @property
    def panel(self) -> str:
        """The column, which is a task: scores of one panel may be compared."""
        each = self.plan.sets[self.set]
        return f"{each.panel}, {self.method}" if each.line else self.set

    @property
    def env(self) -> str:
        return self.plan.sets[self.set].env

    @property
    def steps(self) -> int:
        return self.plan.sets[self.set].steps or self.plan.methods[self.method].steps or self.plan.steps

    @property
    def checkpoints(self) -> int:
        return self.plan.methods[self.method].checkpoints or self.plan.checkpoints

    @property
    def expected(self) -> float:
        return self.plan.methods[self.method].expected

    @property
    def published(self) -> float | None:
        return self.plan.sets[self.set].published.get(self.method)

    @property
    def _source(self) -> str:
        return self.plan.sets[self.set].source

    @property
    def making(self) -> Making | None:
        maker = self.plan.sets[self.set].made_by or self.plan.methods[self.method].made_by
        return Making(self.plan, maker, self._source, self.out) if maker else None

    @property
    def source(self) -> str:
        making = self.making
        times = self.plan.sets[self.set].times
        chosen = self.plan.methods[self.method].select + (f"@times={times}" if times > 1 else "")
        source = "+".join(part + chosen for part in self._source.split("+"))
        return source if making is None else f"{source}+d4rl:{making.file}"

    def train(self) -> list[str]:
        plan = self.plan
        words = [*plan.methods[self.method].train.split(), *plan.sets[self.set].extra.get(self.method, "").split()]
        words += [*plan.small.split(), *(() if plan.online else ("--data", self.source))]
        words += ["--steps", str(self.steps), "--seeds", str(plan.seeds), "--env", self.env]
        words += ["--evaluate-every", str(max(1, self.steps // self.checkpoints))]
        words += ["--episodes", str(plan.curve_episodes), *self._cut(), "--out", str(self.folder), "--resume"]
        return ["online" if plan.online else "train", *words]

    def evaluate(self) -> list[str]:
        where = ("--env", self.env, "--episodes", str(self.plan.episodes))
        return ["eval", str(self.folder), *where, *self._cut()]

    def commands(self) -> list[list[str]]:
        """All that remake the cell."""
        return [*(self.making.commands() if self.making else ()), self.train(), self.evaluate()]

    def written(self) -> list[str]:
        """The same as they are typed."""
        return [f"reverie {shlex.join(command)}" for command in self.commands()]

    def _cut(self) -> Iterator[str]:
        return iter(("--max-steps", str(self.plan.max_steps)) if self.plan.max_steps else ())


def read(path: Path) -> Plan:
    """The plan in a TOML file. Ends the program with a sentence where it is none."""
    try:
        row: dict[str, Any] = tomllib.loads(path.read_text())
        for name, kind in (("methods", Method), ("sets", Set), ("synthesizers", Synthesizer)):
            row[name] = {key: kind(**values) for key, values in row.get(name, {}).items()}
        plan = Plan(name=path.stem, **row)
        check(plan)
    except (OSError, tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        sys.exit(f"{path} is no plan of a table: {error}")
    return plan


def check(plan: Plan) -> None:
    """Raise ValueError for what does not fit together."""
    lines = dict.fromkeys(cell.line for cell in plan.cells())
    if plan.baseline and plan.baseline not in lines:
        raise ValueError(f"baseline {plan.baseline!r} is no line of the table; these are {', '.join(lines)}")
    for name, each in plan.sets.items():
        if each.times < 1:
            raise ValueError(f"set {name!r} has times = {each.times}; give a whole number of at least 1")
        if unknown := (each.extra.keys() | each.published.keys() | set(each.only)) - plan.methods.keys():
            raise ValueError(f"set {name!r} has {sorted(unknown)[0]!r}, which is no method")
    for name, method in plan.methods.items():
        if unknown := set(method.only) - plan.sets.keys():
            raise ValueError(f"method {name!r} is only for {sorted(unknown)[0]!r}, which is no set")
    if len({bool(each.source) for each in plan.sets.values()}) > 1:
        raise ValueError("some sets have a source and some have none; either all are learned from data or all online")
    if any(each.made_by for each in plan.sets.values()) and any(each.made_by for each in plan.methods.values()):
        raise ValueError("both sets and methods say what synthesizer their data are made by; let only one of them")
    makers = [each.made_by for each in (*plan.sets.values(), *plan.methods.values()) if each.made_by]
    if unknown := set(makers) - plan.synthesizers.keys():
        raise ValueError(f"{sorted(unknown)[0]!r} is no synthesizer of the plan")
    if short := [cell for cell in plan.cells() if cell.steps < cell.checkpoints]:
        raise ValueError(f"{short[0].label} has {short[0].steps} steps for {short[0].checkpoints} checkpoints")


def everyone() -> dict[str, Plan]:
    """Every plan beside this package, by its name."""
    return {path.stem: read(path) for path in sorted(FOLDER.glob("*.toml"))}
