"""fit and resume: the host's side of training, which sees the run only between segments."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import reverie
from reverie.errors import DivergenceError, RunError
from reverie.training import folder, loop
from reverie.training.loop import SeedsBy
from reverie.training.metrics import Table, TensorBoard, divergence, segment_rows
from reverie.training.progress import Interrupt, Progress, say, wait
from reverie.training.run import Run, state_shapes
from reverie.training.stages import last_begins, stage_at

CHECKPOINT_SECONDS = 60.0
LONGEST_SEGMENT = 1000
ADVICE = "A lower learning rate or a gradient clip may help."
"""After a divergence, unless the algorithm has its own `advice`."""


@dataclass(frozen=True)
class Training:
    """How a run is trained; kept in its config.json, from where `resume` takes it."""

    steps: int
    seeds: tuple[int, ...]
    segment: int
    seeds_by: SeedsBy
    devices: int
    checkpoint_every: int | None
    keep: int
    tensorboard: bool


def fit(
    algorithm: Any,
    data: Any,
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
    devices: int = 1,
    tensorboard: bool = False,
    progress: bool = True,
) -> Run:
    """Train the algorithm on the data set for `steps` updates of each of the seeds seed ... seed + seeds - 1.

    Update i of a seed depends on its number, i and the data only: neither on `segment` nor on interruptions.

    out: the run's folder. One that holds a run is refused, unless `resume`: then that run goes on from its last
        checkpoint, to `steps` (a folder without a run starts one). Configuration and data must be the same.
    segment: updates in one compiled scan, between two looks from the host, and in one row of the metrics. By
        default the largest divisor of `steps` up to 1000 and a twentieth of them, if it is not too small.
    checkpoint_every: updates between two checkpoints, taken at the ends of segments. By default one after the
        first segment and then one a minute. The last state is always kept, the newest `keep` in all.
    seeds_by: "vmap" trains all seeds at once, "map" one after another inside the same program. "auto" is vmap
        on an accelerator, map on a CPU.
    devices: over how many of JAX's devices each batch is split; parameters and data are on all of them.
    tensorboard: write the metrics as TensorBoard's files too (the extra `tensorboard`).

    Ctrl-C or SIGTERM (with `out`) saves after the current segment and raises KeyboardInterrupt. Raises RunError
    for a folder or settings that cannot be used, DataError for data that the algorithm cannot use, and
    DivergenceError as soon as a metric or a state is not finite: that state is not written.
    """
    _check_at_least_one(steps=steps, seeds=seeds, segment=segment, checkpoint_every=checkpoint_every, keep=keep)
    if tensorboard and out is None:
        raise RunError("tensorboard=True writes into the run's folder; give out= as well.")
    numbers = tuple(range(seed, seed + seeds))
    loop.device_mesh(devices, algorithm.batch_size)
    training = Training(steps, numbers, segment or 0, seeds_by, devices, checkpoint_every, keep, tensorboard)
    if out is None:
        training = replace(training, segment=segment or default_segment(steps))
        view, spec = algorithm.prepare(data)
        run = _train(algorithm, view, spec, training, Store(None), show=progress)
    else:
        run = _fit_in(Path(out), algorithm, data, training, resume, progress)
    return replace(run, data=dict(data.attributes))


def _fit_in(path: Path, algorithm: Any, data: Any, training: Training, resume: bool, progress: bool) -> Run:
    with folder.locked(path):
        training = _settle(path, algorithm, data, training, resume)
        view, spec = algorithm.prepare(data)
        if not folder.holds_run(path):
            spec.save(path / folder.SPEC)
        folder.write_config(path, _config(algorithm, data, training))
        with closing(Store(path, training.keep)) as store:
            return _train(algorithm, view, spec, training, store, show=progress)


def resume(path: str | Path, data: Any = None, steps: int | None = None, *, progress: bool = True) -> Run:
    """Go on with the run in the folder, to the recorded number of updates (of environment steps online) or to `steps`.

    Without `data` they are loaded again from the source that the run recorded. Raises RunError when the folder
    holds no run, when no source is recorded, or when the data are not those the run was started with.
    """
    from reverie.catalogue import from_config

    config = folder.read_config(Path(path))
    if "online" in config:
        from reverie.training.online import resume_online

        return resume_online(path, steps, progress=progress)
    recorded = config["training"]
    numbers = recorded.pop("seeds")
    return fit(
        from_config(config["algorithm"]),
        _recorded_data(path, config["data"]) if data is None else data,
        out=path,
        resume=True,
        progress=progress,
        seed=numbers[0],
        seeds=len(numbers),
        **(recorded if steps is None else recorded | {"steps": steps}),
    )


def _recorded_data(path: str | Path, recorded: dict[str, Any]) -> Any:
    if recorded["source"] is None:
        raise RunError(f"The run in {str(path)!r} does not say where its data came from; give data= as well.")
    return reverie.load_dataset(recorded["source"])


def default_segment(steps: int) -> int:
    """The largest divisor of `steps` up to the longest segment and a twentieth of the steps.

    A divisor, since a last segment of another length would be compiled anew; unless all are so small that the
    host's part would be felt.
    """
    longest = min(LONGEST_SEGMENT, max(1, steps // 20))
    best = max(length for length in range(1, longest + 1) if steps % length == 0)
    return best if best >= longest // 4 else longest


def _check_at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise RunError(f"{name}={value} must be at least 1.")


def _config(algorithm: Any, data: Any, training: Training) -> dict[str, Any]:
    from reverie.catalogue import to_config

    return {
        "algorithm": to_config(algorithm),
        "data": {
            "fingerprint": data.fingerprint,
            "source": data.attributes.get("source"),
            "steps": len(data),
            "attributes": dict(data.attributes),
        },
        "training": asdict(training),
        "versions": {"reverie": reverie.__version__, "jax": jax.__version__},
    }


def _settle(path: Path, algorithm: Any, data: Any, training: Training, resume: bool) -> Training:
    """The training with its segment. Raises RunError when it may not go on in this folder."""
    default = default_segment(training.steps)
    if not folder.holds_run(path):
        folder.check_vacant(path)
        return replace(training, segment=training.segment or default)
    if not resume:
        raise RunError(
            f"{str(path)!r} already holds a run; go on with it by resume=True (or reverie train --resume), or "
            "give another folder."
        )
    recorded = folder.read_config(path)
    training = replace(training, segment=training.segment or recorded["training"]["segment"])
    _check_same(path, recorded, _config(algorithm, data, training))
    return training


def _check_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise RunError for the first setting on which the result depends and that is another one now."""
    if old["data"]["fingerprint"] != new["data"]["fingerprint"]:
        raise RunError(
            f"The run in {str(path)!r} was trained on other data ({old['data']['steps']} steps, fingerprint "
            f"{old['data']['fingerprint'][:12]}) than these ({new['data']['steps']} steps, "
            f"{new['data']['fingerprint'][:12]}); give the same data or another folder."
        )
    before = old["algorithm"] | {key: old["training"][key] for key in ("segment", "seeds_by", "devices")}
    after = new["algorithm"] | {key: new["training"][key] for key in ("segment", "seeds_by", "devices")}
    before["seeds"], after["seeds"] = list(old["training"]["seeds"]), list(new["training"]["seeds"])
    for key in before | after:
        if before.get(key) != after.get(key):
            raise RunError(
                f"The run in {str(path)!r} has {key}={before.get(key)!r} and not {after.get(key)!r}; resume it "
                "with the same configuration or give another folder."
            )


class Store:
    """The files that grow during a run; without a folder only the table, in memory."""

    def __init__(self, path: Path | None, keep: int = 1):
        self.path = path
        self.table = Table(path and path / folder.METRICS)
        self.checkpoints = folder.Checkpoints(path, keep, write=True) if path else None
        self.tensorboard: TensorBoard | None = None

    def write_tensorboard(self, wanted: bool, done: int) -> None:
        if wanted and self.path:
            self.tensorboard = TensorBoard(self.path / "tensorboard", done)

    def append(self, rows: list[dict[str, float]]) -> None:
        self.table.append(rows)
        if self.tensorboard:
            self.tensorboard.append(rows)

    def save(self, step: int, states: Any) -> None:
        if self.checkpoints:
            self.checkpoints.save(step, states)

    def latest(self) -> int | None:
        return self.checkpoints.latest() if self.checkpoints else None

    def kept(self) -> str:
        """Which checkpoint is the last good one, in a sentence."""
        if self.latest() is None:
            return "No checkpoint had been written yet."
        return f"The last good checkpoint is that of update {self.latest()} in {str(self.path)!r}."

    def close(self) -> None:
        for writer in (self.checkpoints, self.tensorboard):
            if writer:
                writer.close()


def _train(algorithm: Any, view: Any, spec: Any, training: Training, store: Store, *, show: bool) -> Run:
    states, done = _start(algorithm, spec, training, store)
    store.table.truncate(done)
    store.write_tensorboard(training.tensorboard, done)
    if show and training.steps <= last_begins(algorithm) > 0:
        say(
            f"{algorithm.name} learns in stages, and the last begins after {last_begins(algorithm)} updates: these "
            f"{training.steps} end before it. Ask for more, or shorten the stages (fields that end in _updates)."
        )
    bar = Progress(algorithm.name, training.steps, done, show=show, note="compiling")
    try:
        with bar, Interrupt(active=store.path is not None) as stop:
            states, done = _updates(algorithm, view, training, store, bar, stop, states, done)
            if stop.asked:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        _say_how_to_go_on(store, training)
        raise
    states = jax.device_put(states, jax.devices()[0])
    return Run(algorithm, spec, states, done, training.seeds, store.path, store.table)


def _updates(
    algorithm: Any,
    view: Any,
    training: Training,
    store: Store,
    bar: Progress,
    stop: Interrupt,
    states: Any,
    done: int,
) -> tuple[Any, int]:
    """Segment after segment, until all updates are done or a stop is asked for."""
    mesh = loop.device_mesh(training.devices, algorithm.batch_size)
    states, view, keys = loop.replicated((states, view, loop.seed_keys(training.seeds)), mesh)
    seeds_by, split = loop.chosen_seeds_by(training.seeds_by, len(training.seeds)), loop.batch_split(mesh)
    clock = _Clock(store.table.last("seconds"), saved=done)
    stopping, place = False, None
    while done < training.steps and not stopping:
        if place is None or done == place.stop:
            place = stage_at(algorithm, done)
            if done == place.first:
                states = loop.begin(algorithm, states, keys, stage=place.number)
            derived = loop.derive(algorithm, states, keys, view, stage=place.number)
        length = min(training.segment - done % training.segment, (place.stop or training.steps) - done)
        length = min(length, training.steps - done)
        number = loop.replicated(np.uint32(done), mesh)
        how: dict[str, Any] = {"length": length, "seeds_by": seeds_by, "split": split, "stage": place.number}
        states, metrics, finite = loop.advance(algorithm, states, keys, number, view, derived, **how)
        wait(finite)
        metrics, finite = jax.device_get((metrics, finite))
        if fault := divergence(metrics, finite, training.seeds, done):
            raise DivergenceError(f"{fault} {store.kept()} {getattr(algorithm, 'advice', ADVICE)}")
        done += length
        rows = segment_rows(metrics, training.seeds, done, *clock.times(length))
        store.append(rows)
        bar.update(rows)
        stopping = stop.asked
        # Rows first: a checkpoint without its rows could not be made good, rows without one are dropped.
        if stopping or clock.due(done, training):
            store.save(done, states)
    return states, done


def _start(algorithm: Any, spec: Any, training: Training, store: Store) -> tuple[Any, int]:
    """The states to begin with and the updates they have had."""
    step = store.latest()
    if step is None or store.checkpoints is None:
        return loop.initial_states(algorithm, loop.seed_keys(training.seeds), spec), 0
    if step > training.steps:
        raise RunError(f"The run in {str(store.path)!r} is at update {step}, past steps={training.steps}.")
    return store.checkpoints.restore(step, state_shapes(algorithm, spec, training.seeds)), step


def _say_how_to_go_on(store: Store, training: Training) -> None:
    if store.path is not None:
        say(
            f"Stopped; update {store.latest() or 0} of {training.steps} is saved. "
            f"Go on with: reverie train --resume {store.path}"
        )


class _Clock:
    """Seconds of training, those of earlier sessions included, and when a checkpoint is due."""

    def __init__(self, before: float, saved: int):
        self.start = time.perf_counter() - before
        self.last = self.saved_at = time.perf_counter()
        self.saved = saved

    def times(self, length: int) -> tuple[float, float]:
        """(seconds so far, updates a second of the segment of `length` that has just ended)."""
        before, self.last = self.last, time.perf_counter()
        return self.last - self.start, length / (self.last - before)

    def due(self, done: int, training: Training) -> bool:
        every = training.checkpoint_every
        if every is None:
            due = self.saved == 0 or self.last - self.saved_at >= CHECKPOINT_SECONDS
        else:
            due = done // every > self.saved // every
        if due or done == training.steps:
            self.saved, self.saved_at = done, self.last
            return True
        return False
