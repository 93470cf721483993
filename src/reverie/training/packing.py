"""fit_many: several settings of one method, trained in one program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reverie.catalogue import check
from reverie.data import Dataset, Spec
from reverie.errors import DivergenceError, ReverieError, RunError
from reverie.protocols import OnPolicy, Tuner
from reverie.settings import is_real, without
from reverie.terminal import say
from reverie.training import beginning, folder, hosts, loop, segments
from reverie.training.fitting import Fitting
from reverie.training.loop import SeedsBy
from reverie.training.metrics import divergence
from reverie.training.run import Run
from reverie.training.settings import Training, check_at_least_one
from reverie.training.store import Store, Stores

DIVERGED = "diverged"
"""In config.json: why a run that was trained with others is not gone on with among them."""
TRACED = ("trace", "metadata fields")
"""In messages of JAX, and of ours that quote a value, where one that the program is given decides its shape."""


def fit_many(
    algorithms: Sequence[Any] | Mapping[str, Any],
    data: Dataset,
    *,
    steps: int,
    seeds: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    segment: int | None = None,
    checkpoint_every: int | None = None,
    keep: int = 2,
    seeds_by: SeedsBy = "auto",
    devices: int | None = None,
    host_data: bool = False,
    shard_data: bool = False,
    progress: bool = True,
) -> list[Run | DivergenceError]:
    """Train several settings of one method on the data set, each from all the seeds, in one compiled program.

    The settings are algorithms of one class that differ in fields of type float, such as `tau` or a learning rate,
    which become inputs of the program: it is compiled once, the data are read once, and on an accelerator all trainings
    advance together. Each of them is, but for rounding, what `fit` makes of its setting alone.

    algorithms: the settings, by name where they are a mapping; else they are "000", "001", ...
    out: the folder in which each has a run's folder, its name; each can be loaded and gone on with by itself.
    The other arguments are those of `fit`.

    Returns a run for each, in order. One that diverges leaves the others alone: in the place of its run is the
    DivergenceError that says so, and its last good checkpoint stays. When all have diverged the first is raised.

    Raises ReverieError for settings of several methods, for such as differ in what the preparation of the data or the
    program's shape depends on, and as `fit` does.
    """
    named = dict(algorithms if isinstance(algorithms, Mapping) else _numbered(algorithms))
    check_at_least_one(steps=steps, seeds=seeds, segment=segment, checkpoint_every=checkpoint_every)
    if keep < 2:
        raise RunError(f"keep={keep} must be at least 2 where runs are trained together.")
    if hosts.several():
        raise RunError(
            f"One process trains settings together, and these are {jax.process_count()}; give each some of them."
        )
    for name, algorithm in named.items():
        check(algorithm)
        if Path(name).name != name or name in ("", ".."):
            raise RunError(f"{name!r} is no name for a folder of a setting; choose one without slashes.")
    varied = differing(tuple(named.values()))
    first: Any = next(iter(named.values()))
    if any(isinstance(first, kind) for kind in (OnPolicy, Tuner)):
        raise RunError(f"{first.name} does not begin with data alone; its settings are trained apart.")
    segments.check_writes_nothing(first)
    segments.check_keeps(first, host_data=host_data, shard_data=shard_data)
    numbers = tuple(range(seed, seed + seeds))
    where = (devices, checkpoint_every, keep, host_data, shard_data)
    training = Training(steps, numbers, segment or 0, seeds_by, *where)
    pack = _Pack(named, varied, data, training, progress)
    runs = pack.runs() if out is None else pack.runs_in(Path(out), resume)
    found = [runs[name] for name in named]
    if all(isinstance(each, DivergenceError) for each in found):
        raise found[0]  # type: ignore[misc]
    return [replace(each, data=dict(data.attributes)) if isinstance(each, Run) else each for each in found]


def _numbered(algorithms: Sequence[Any]) -> dict[str, Any]:
    return {f"{number:03d}": algorithm for number, algorithm in enumerate(algorithms)}


def differing(algorithms: Sequence[Any]) -> tuple[str, ...]:
    """The fields in which they differ. Raises RunError where there is none to train, and for what cannot be an input
    of one program by its type."""
    if not algorithms:
        raise RunError("There is no setting to train; give at least one algorithm.")
    if len({type(algorithm) for algorithm in algorithms}) > 1:
        names = ", ".join(dict.fromkeys(algorithm.name for algorithm in algorithms))
        raise RunError(f"One program trains settings of one method, and these are of several: {names}.")
    values = {each.name: [getattr(a, each.name) for a in algorithms] for each in fields(algorithms[0])}
    found = tuple(name for name, each in values.items() if any(value != each[0] for value in each))
    for name in found:
        if not is_real(type(algorithms[0]), name) or not all(map(_is_number, values[name])):
            said = ", ".join(dict.fromkeys(map(str, values[name])))
            raise RunError(f"{name} = {said}: in one program only fields of type float can differ; train these apart.")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


class _Pack(Fitting):
    """One call of `fit_many`: a training whose seeds are those of one setting after another."""

    def __init__(self, named: Mapping[str, Any], varied: Sequence[str], data: Any, training: Training, show: bool):
        super().__init__(next(iter(named.values())), data, training, None, (), show)
        self.varied = tuple(varied)
        self.alone = {name: Fitting(each, data, training, None, (), False) for name, each in named.items()}
        self.found: dict[str, Run | DivergenceError] = {}

    def runs(self) -> dict[str, Run | DivergenceError]:
        for each in self.alone.values():
            each.choose_segment(None)
        return self.together(Stores({name: Store(None) for name in self.alone}), None)

    def runs_in(self, out: Path, resume: bool) -> dict[str, Run | DivergenceError]:
        with ExitStack() as held:
            for name, each in self.alone.items():
                held.enter_context(folder.locked(out / name))
                each.settle(out / name, resume)
                if why := diverged(out / name):
                    self.let_go(name, why)
            begun = [out / name for name in self.alone if folder.holds_run(out / name)]
            spec = Spec.load(begun[0] / folder.SPEC) if begun else None
            going = [name for name in self.alone if name not in self.found]
            stores = {name: Store(out / name, self.training.keep) for name in going}
            for store in stores.values():
                held.callback(store.close)
            for abreast in _abreast(stores):
                self.together(Stores(abreast, out), spec)
        return self.found

    def together(self, stores: Stores, spec: Spec | None) -> dict[str, Run | DivergenceError]:
        """The runs, by name, with the errors of those that diverged."""
        self.going = [self.alone[name] for name in stores.stores]
        own = self.going[0].training
        self.training = replace(own, seeds=own.seeds * len(self.going))
        with suppress(DivergenceError), _inputs(self.algorithm.name, self.varied):
            self.train(stores, spec)  # type: ignore[arg-type]
        return self.found

    def prepared(self, spec: Spec | None) -> tuple[Any, Spec]:
        why = f"is read when {self.algorithm.name} prepares the data, once for all settings; train these apart."
        return beginning.prepared(without(self.algorithm, self.varied, why), self.data, spec, None, self.mesh())

    def each(self) -> loop.Each:
        seeds = len(self.training.seeds) // len(self.going)
        values = {n: [getattr(each.algorithm, n) for each in self.going] for n in self.varied}
        return loop.each_seed(self.training.seeds, {n: np.repeat(value, seeds) for n, value in values.items()})

    def first_states(self, spec: Spec) -> Any:
        return loop.initial_states(self.algorithm, self.each(), spec)

    def note(self, path: Path, spec: Spec) -> None:
        for name, each in self.alone.items():
            if each in self.going:
                each.note(path / name, spec)

    def check(self, metrics: dict[str, Any], finite: Any, done: int, store: Any) -> None:
        """Let go of those whose segment holds what is not finite. Raises DivergenceError when none is left."""
        for name in store.going:
            own = store.places(name, len(finite))
            seeds, values = self.training.seeds[own], {each: x[own] for each, x in metrics.items()}
            if fault := divergence(values, finite[own], seeds, done):
                path, said = store.stores[name].path, f"{name}: {fault} {store.stores[name].kept()} {self.advice}"
                store.lost.add(name)
                self.let_go(name, said)
                if path:
                    folder.write_config(path, folder.read_config(path) | {DIVERGED: said})
        if not store.going:
            raise DivergenceError("All have diverged.")

    def let_go(self, name: str, why: str) -> None:
        self.found[name] = DivergenceError(why)
        if self.show:
            say(why)

    def run_of(self, spec: Spec, states: Any, done: int, store: Any) -> Any:
        """Of each."""
        for name, own in store.going.items():
            each = self.alone[name]
            self.found[name] = each.run_of(spec, store.part(name, states), done, own)

    def say_how_to_go_on(self, store: Any) -> None:
        if store.writes:
            say(
                f"Stopped; update {store.latest() or 0} of {self.training.steps} is saved. Go on with the same command."
            )


def _abreast(stores: Mapping[str, Store]) -> Iterator[dict[str, Store]]:
    """Groups of those that have a checkpoint of the same update to go on from, those furthest behind first."""
    left = dict(stores)
    while left:
        steps = {name: store.steps() or [0] for name, store in left.items()}
        first = min(map(max, steps.values()))
        yield {name: left.pop(name) for name in stores if name in left and first in steps[name]}


def diverged(path: Path) -> str | None:
    """Why the run in the folder was let go of, if it was."""
    return folder.read_config(path).get(DIVERGED) if (path / folder.CONFIG).exists() else None


@contextmanager
def _inputs(name: str, varied: Sequence[str]) -> Iterator[None]:
    """Where the program cannot be made with these fields as inputs, RunError."""
    try:
        yield
    except (TypeError, ValueError, ReverieError) as error:
        if not varied or not any(sign in str(error).lower() for sign in TRACED):
            raise
        raise RunError(
            f"{', '.join(varied)} cannot differ within one program of {name}, whose shape depends on "
            f"{'it' if len(varied) == 1 else 'one of them'}; train these apart."
        ) from error
