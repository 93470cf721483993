"""fit: the host's side of training, which sees the run only between segments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax

from reverie.catalogue import check, to_config
from reverie.data import Dataset, Spec
from reverie.data.host import host_memory
from reverie.data.streaming import Streamed
from reverie.errors import DivergenceError, RunError
from reverie.learning.stages import last_begins, stage_at, stages_of
from reverie.protocols import Algorithm, OnPolicy
from reverie.terminal import Interrupt, Progress, say
from reverie.training import beginning, folder, hosts, loop, release, segments, streaming
from reverie.training.callbacks import Callback, add_columns, any_done
from reverie.training.clock import Clock, Pace
from reverie.training.loggers import check_loggers
from reverie.training.loop import SeedsBy
from reverie.training.metrics import divergence, joined, segment_rows
from reverie.training.placing import SEEDS, device_mesh, fetched, home, placed
from reverie.training.run import Run
from reverie.training.settings import Training, check_at_least_one, default_segment
from reverie.training.store import Store
from reverie.version import __version__

ADVICE = "A lower learning rate or a gradient clip may help."
"""After a divergence, unless the algorithm has its own `advice`."""


def fit(
    algorithm: Algorithm,
    data: Dataset | Streamed,
    *,
    steps: int,
    seeds: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    initial: Run | None = None,
    segment: int | None = None,
    checkpoint_every: int | None = None,
    keep: int = 2,
    seeds_by: SeedsBy = "auto",
    devices: int | None = None,
    host_data: bool = False,
    shard_data: bool = False,
    block_updates: int | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[str] = (),
    progress: bool = True,
) -> Run:
    """Train the algorithm on the data set for `steps` updates of each of the seeds seed ... seed + seeds - 1.

    Update i of a seed depends on its number, i and the data only: neither on `segment` nor on interruptions.
    Data of `reverie.stream` are read while they are trained on, a block at a time, of which the batches are drawn; the
    block of update i depends on i and `block_updates`. Not for methods that need all the data at once.

    out: the run's folder. One that holds a run is refused, unless `resume`: then that run goes on from its last
        checkpoint, to `steps` (a folder without a run starts one). Configuration and data must be the same.
    initial: the run to begin from, fine-tuning for instance: of the same algorithm, or of another where the algorithm
        has `init_from`. Of one seed for all, or of as many. Of the same algorithm its parameters, their averages and
        its units are taken over, so that the data's observations and actions must be as its own. Optimisers and
        counters begin anew: a learning rate's warm-up and decay, an average's `ema_start` (until then the average is a
        copy of the parameters again), and the stages of a method that learns in such, all of which are gone through
        once more, from these parameters. A run that is gone on with has states of its own. Not one of a file.
    segment: updates in one compiled scan, between two looks from the host, and in one row of the metrics. By
        default the largest divisor of `steps` up to 1000 and a twentieth of them, if it is not too small.
    checkpoint_every: updates between two checkpoints, taken at the ends of segments. By default one after the
        first segment and then one a minute. The last state is always kept, the newest `keep` in all.
    seeds_by: "vmap" trains all seeds at once, "map" one after another inside the same program. "auto" is vmap
        on an accelerator, map on a CPU.
    devices: how many of JAX's devices train. If not given, all where several processes train together (`hosts.join`),
        as many CPU devices as the seeds divide among equally (`reverie.use_every_core` makes one of each core) if the
        data have less than 1 GB, and one accelerator. The seeds are divided among them as far as they go, and each
        batch among those that share a seed; parameters and data are on all of them, but for `shard_data`. Another
        number rounds otherwise; a run may go on with it.
    host_data: keep the data in the host's memory, where the device lacks the room: batches are gathered there in the
        background. The updates are the same, bit for bit. Not for methods that derive columns of the data.
    shard_data: divide the rows of the data among the devices: each has an equal part of them in place of all, and only
        batches are exchanged. They are of the same rows. Not for methods that derive columns of the data. Of a stream
        a block's files are divided, of which each process reads its own.
    block_updates: updates on each block of streamed data, whole segments; as many as draw each row once on average if
        not given.
    callbacks: called at the end of every segment, such as `evaluation.Evaluate`; see `Callback`.
    loggers: where else the metrics go, of "tensorboard", "wandb", "mlflow", "trackio"; an extra each. See `loggers`.

    Where several processes train together each calls `fit` alike, in a folder that all can read. The first of them
    writes it, and alone has the rows of the metrics and calls the callbacks, while the others wait.

    Ctrl-C or SIGTERM (with `out`) saves after the updates of a second or two (on an accelerator, of a segment), and
    raises KeyboardInterrupt, in all processes where one is asked. Raises RunError for a folder or settings that cannot
    be used, DataError for data that the algorithm cannot use, DivergenceError as soon as a metric or a state is not
    finite: that state is not written; and LostProcessError when another process is gone.
    """
    check_at_least_one(steps=steps, seeds=seeds, segment=segment, checkpoint_every=checkpoint_every, keep=keep)
    check_at_least_one(block_updates=block_updates)
    check_loggers(loggers, out)
    numbers = tuple(range(seed, seed + seeds))
    device_mesh(devices, seeds, algorithm.batch_size)
    check(algorithm)
    if isinstance(algorithm, OnPolicy):
        raise RunError(
            f"{algorithm.name} learns from what its own policy does, not from data; use `fit_online` (reverie online "
            f"{algorithm.name})."
        )
    release.check_whole(initial)
    segments.check_writes_nothing(algorithm)
    segments.check_keeps(algorithm, host_data=host_data, shard_data=shard_data)
    block_rows = data.block_rows if isinstance(data, Streamed) else None
    if block_rows:
        streaming.check_streams(algorithm, host_data)
    elif block_updates:
        raise RunError(f"block_updates={block_updates} is for data of reverie.stream (--stream); leave it out.")
    training = Training(
        *(steps, numbers, segment or 0, seeds_by, devices, checkpoint_every, keep, host_data, shard_data),
        *(tuple(loggers), block_rows, block_updates),
    )
    fitting = Fitting(algorithm, data, training, initial, tuple(callbacks), progress)
    run = fitting.run() if out is None else fitting.run_in(Path(out), resume)
    return replace(run, data=dict(data.attributes))


class Fitting:
    """One call of `fit`."""

    def __init__(
        self,
        algorithm: Any,
        data: Dataset | Streamed,
        training: Training,
        initial: Run | None,
        callbacks: tuple[Callback, ...],
        show: bool,
    ):
        self.algorithm, self.data, self.training, self.initial = algorithm, data, training, initial
        self.callbacks, self.show = callbacks, show and hosts.first()

    def run(self) -> Run:
        """Without a folder."""
        self.choose_segment(None)
        return self.train(Store(None), None)

    def run_in(self, path: Path, resume: bool) -> Run:
        with folder.locked(path) if hosts.first() else nullcontext():
            with hosts.together():
                begun = folder.holds_run(path)
                self.settle(path, resume)
                spec = Spec.load(path / folder.SPEC) if begun else None
            with closing(Store(path, self.training.keep, write=hosts.first())) as store:
                return self.train(store, spec)

    def settle(self, path: Path, resume: bool) -> None:
        """Decide on the segment. Raises RunError when the run may not go on, or begin, in this folder."""
        if not folder.goes_on(path, resume):
            self.choose_segment(None)
            return
        recorded = folder.read_config(path)
        self.choose_segment(recorded["training"])
        folder.check_same(path, recorded, self.config(recorded.get("initial")))

    def choose_segment(self, recorded: dict[str, Any] | None) -> None:
        """And the updates on a block, where they are not given: as recorded, or by default."""
        training, known = self.training, recorded or {}
        segment = training.segment or known.get("segment") or default_segment(training.steps)
        updates = training.block_updates or known.get("block_updates")
        if isinstance(self.data, Streamed):
            updates = updates or streaming.default_updates(self.data, self.algorithm.batch_size, segment)
            if updates % segment:
                raise RunError(f"block_updates={updates} must be a multiple of segment={segment}; choose one.")
        self.training = replace(training, segment=segment, block_updates=updates)

    def config(self, begun_from: Any = None) -> dict[str, Any]:
        return {
            "algorithm": to_config(self.algorithm),
            "data": {
                "fingerprint": self.data.fingerprint,
                "source": self.data.attributes.get("source"),
                "steps": len(self.data),
                "attributes": dict(self.data.attributes),
            },
            "initial": begun_from or beginning.provenance(self.initial),
            "training": asdict(self.training),
            "versions": {"reverie": __version__, "jax": jax.__version__},
        }

    def train(self, store: Store, spec: Spec | None) -> Run:
        with hosts.together():
            with host_memory() if self.training.host_data or self.training.shard_data else nullcontext():
                view, spec = self.prepared(spec)
            states, done = self.start(spec, store)
        if store.writes:
            self.note(store.writes, spec)
        store.truncate(done)
        store.open_loggers(self.training.loggers, self.config(), done)
        self.say_of_stages()
        bar = Progress(self.algorithm.name, self.training.steps, done, show=self.show, note="compiling")
        try:
            with (
                hosts.losing(store.kept),
                bar,
                Interrupt(active=store.path is not None) as stop,
                view if self.training.block_rows else nullcontext(),
            ):
                states, done = self.updates(view, spec, store, bar, stop, states, done)
                states = home(states)
                if stop.asked:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.say_how_to_go_on(store)
            raise
        return self.run_of(spec, states, done, store)

    def note(self, path: Path, spec: Spec) -> None:
        """In the folder, what the run is trained on and how."""
        begun_from = folder.read_config(path).get("initial") if folder.holds_run(path) else None
        if not folder.holds_run(path):
            spec.save(path / folder.SPEC)
        folder.write_config(path, self.config(begun_from))

    def prepared(self, spec: Spec | None) -> tuple[Any, Spec]:
        return beginning.prepared(self.algorithm, self.data, spec, self.initial, self.mesh(), self.training.shard_data)

    def mesh(self) -> Any:
        training, data = self.training, self.data
        rows = () if training.host_data or isinstance(data, Streamed) else (data.observations, data.actions, data.infos)
        copied = sum(each.nbytes for each in jax.tree.leaves(rows))
        return device_mesh(training.devices, len(training.seeds), self.algorithm.batch_size, copied)

    def each(self) -> loop.Each:
        return loop.each_seed(self.training.seeds)

    def first_states(self, spec: Spec) -> Any:
        return beginning.states(self.algorithm, spec, self.training.seeds, self.initial)

    def run_of(self, spec: Spec, states: Any, done: int, store: Store) -> Run:
        return Run(self.algorithm, spec, states, done, self.training.seeds, store.path, store.table)

    def start(self, spec: Spec, store: Store) -> tuple[Any, int]:
        """The states to begin with and the updates they have had."""
        step = store.latest()
        if step is None:
            return self.first_states(spec), 0
        if step > self.training.steps:
            raise RunError(f"The run in {str(store.path)!r} is at update {step}, past steps={self.training.steps}.")
        return store.restore(step, loop.state_shapes(self.algorithm, spec, self.training.seeds)), step

    def updates(
        self, view: Any, spec: Spec, store: Store, bar: Progress, stop: Interrupt, states: Any, done: int
    ) -> tuple[Any, int]:
        """Segment after segment, until all updates are done or a stop is asked for."""
        training, algorithm = self.training, self.algorithm
        mesh = self.mesh()
        states, each = placed((states, self.each()), mesh, SEEDS)
        kind = segments.streamed if training.block_rows else segments.on_device
        advance = (segments.from_host if training.host_data else kind)(algorithm, view, training, mesh)
        clock, pace = Clock(store.seconds, done), Pace(segments.in_one_call(training))
        stopping, place = False, None
        parts: list[dict[str, Any]] = []
        """The metrics of the segment so far."""
        while done < training.steps and not stopping:
            if place is None or done == place.stop:
                place = stage_at(algorithm, done)
                pace.begin()
                if done == place.first:
                    states = loop.begin(algorithm, states, each, stage=place.number)
                if stages_of(algorithm)[place.number].derive:
                    bar.tell("computing what this stage learns from, for all rows")
            end = min(done + training.segment - done % training.segment, place.stop or training.steps, training.steps)
            count = pace.next(end - done)
            states, metrics, finite = advance(states, each, done, count, place.number)
            self.check(metrics, finite, done, store)
            pace.took(count)
            done, parts = done + count, [*parts, metrics]
            if done < end and not stop.asked:
                bar.update(segment_rows(metrics, training.seeds, done, 0.0, pace.rate))
                continue
            metrics, parts = joined(parts), []
            rows = segment_rows(metrics, training.seeds, done, *clock.times(done))
            self.call_back(rows, spec, states, done, store)
            store.append(rows)
            bar.update(rows)
            due = clock.due(done, training)
            stop.asked, finished, due = hosts.any_of(stop.asked, any_done(self.callbacks), due and hosts.first())
            stopping = stop.asked or finished
            # Rows first: a checkpoint without its rows could not be made good, rows without one are dropped.
            if stopping or due:
                store.save(done, fetched(states))
        return states, done

    def check(self, metrics: dict[str, Any], finite: Any, done: int, store: Store) -> None:
        """Raise DivergenceError where the segment after update `done` holds what is not finite."""
        if fault := divergence(metrics, finite, self.training.seeds, done):
            raise DivergenceError(f"{fault} {store.kept()} {self.advice}")

    @property
    def advice(self) -> str:
        return getattr(self.algorithm, "advice", ADVICE)

    def call_back(self, rows: list[dict[str, float]], spec: Spec, states: Any, done: int, store: Store) -> None:
        """Let the callbacks see the run, and add their columns to the rows."""
        if not self.callbacks:
            return
        seen = self.run_of(spec, home(states), done, store)
        for callback in self.callbacks if hosts.first() else ():
            add_columns(rows, callback.on_segment(seen))

    def say_of_stages(self) -> None:
        last = last_begins(self.algorithm)
        if self.show and self.training.steps <= last > 0:
            say(
                f"{self.algorithm.name} learns in stages, and the last begins after {last} updates: these "
                f"{self.training.steps} end before it. Ask for more, or shorten the stages (fields ending in _updates)."
            )

    def say_how_to_go_on(self, store: Store) -> None:
        if store.writes:
            say(
                f"Stopped; update {store.latest() or 0} of {self.training.steps} is saved. "
                f"Go on with: reverie train --resume {store.path}"
            )
