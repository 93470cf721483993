"""What a trained synthesizer makes: in memory, or onto the disk as it comes."""

from __future__ import annotations

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from reverie.catalogue import from_config, to_config
from reverie.data import Field
from reverie.data.appendable import AppendableHDF5
from reverie.data.shard_writer import ShardWriter
from reverie.data.writers import check_target
from reverie.engines import Kind, Ray
from reverie.errors import RunError
from reverie.protocols import Divisible, Synthesizer
from reverie.terminal import Progress, say

if TYPE_CHECKING:
    from reverie.training.run import Run


@dataclass(frozen=True)
class Workers:
    """Processes that make data together: on this machine, or on the Ray cluster that RAY_ADDRESS names."""

    count: int = 1
    engine: Kind = "local"

    def check(self, run: Run) -> None:
        """Raise RunError where they cannot make the run's data."""
        if self.count < 1:
            raise RunError(f"workers={self.count} must be at least 1.")
        if self.count > 1 and not isinstance(run.algorithm, Divisible):
            raise RunError(f"{run.algorithm.name} makes its rows one after another; leave workers={self.count} out.")


def check_generates(run: Run, n: int) -> None:
    """Raise RunError when the run's algorithm does not make data, or is to make none."""
    if not isinstance(run.algorithm, Synthesizer):
        raise RunError(f"{run.algorithm.name} is a {run.algorithm.role}: it acts and does not generate data.")
    if n < 1:
        raise RunError(f"n={n} rows cannot be generated; ask for at least 1.")


def chunks(
    run: Run, n: int, seed: int | None, key: int, start: int = 0, *, workers: Workers, progress: bool
) -> Iterator[Any]:
    """The data sets of rows start, ..., n - 1, as the algorithm makes them, with a bar of what is done."""
    done = start
    with Progress(run.name, n, done, show=progress, unit="rows", note="compiling") as bar:
        clock = time.perf_counter()
        for made in (_alone if workers.count == 1 else _beside)(run, n, seed, key, start, workers):
            yield made
            done, before, clock = done + len(made), clock, time.perf_counter()
            bar.advance(done, len(made) / (clock - before))


def _alone(run: Run, n: int, seed: int | None, key: int, start: int, _: Workers) -> Iterator[Any]:
    return run.algorithm.chunks(run.state(seed), run.spec, jax.random.key(key), n, start)


Bounds = Iterator[tuple[int, int]]


def _beside(run: Run, n: int, seed: int | None, key: int, start: int, workers: Workers) -> Iterator[Any]:
    """The same rows by several processes, in their order."""
    learned = jax.device_get((run.state(seed), run.spec))
    made_by = _locally if workers.engine == "local" else _by_ray
    return made_by(workers.count, (to_config(run.algorithm), *learned, key), run.algorithm.pieces(n, start))


def _locally(count: int, given: tuple, pieces: Bounds) -> Iterator[Any]:
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=count, return_as="generator", batch_size=1)(delayed(_piece)(given, *p) for p in pieces)


def _by_ray(count: int, given: tuple, pieces: Bounds) -> Iterator[Any]:
    cluster, begun = Ray(count), deque[Future]()
    try:
        shared = cluster.ray.put(given)
        for piece in pieces:
            begun.append(cluster.submit(_piece, shared, *piece))
            if len(begun) == 2 * count:  # no more of them in memory
                yield begun.popleft().result()
        yield from (each.result() for each in begun)
    finally:
        cluster.shutdown()


def _piece(given: tuple[dict[str, Any], Any, Any, int], start: int, stop: int) -> Any:
    """One chunk, in a process of several."""
    config, state, spec, key = given
    return next(from_config(config).chunks(state, spec, jax.random.key(key), stop, start))


def provenance(run: Run, seed: int | None, key: int) -> dict[str, Any]:
    """Attributes of the data made: that they are synthetic, what the real ones were, and all that they depend on."""
    config = to_config(run.algorithm)
    real = run.data.get("name")
    kept = {"real_data": real, "environment": run.data.get("environment")}
    return {
        "name": f"synthetic {real or 'data'} by {run.algorithm.name}",
        "synthetic": True,
        **(run.algorithm.about(run.spec) if hasattr(run.algorithm, "about") else {}),
        **{name: value for name, value in kept.items() if value is not None},
        "algorithm": config.pop("name"),
        "configuration": json.dumps(config),
        "seed": run.seeds[0] if seed is None else seed,
        "updates": run.step,
        "key": key,
        "state": _digest(run.state(seed)),
    }


def _digest(state: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.device_get(jax.tree.leaves(state)):
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def write(run: Run, target: str, n: int, seed: int | None, key: int, *, workers: Workers, progress: bool) -> None:
    """Make rows 0, ..., n - 1 and write them, chunk after chunk where the target can grow: D4RL's file, of vectors,
    and a folder of shards."""
    check_generates(run, n)
    workers.check(run)
    check_target(target, episodes=n)
    scheme, _, path = target.partition(":")
    if scheme == "parquet":
        with ShardWriter(path, provenance(run, seed, key)) as writer:
            for made in chunks(run, n, seed, key, workers=workers, progress=progress):
                writer.append(made)
        return
    space = run.spec.observation_space
    if scheme != "d4rl" or not (isinstance(space, Field) and space.kind == "vector"):
        run.generate(n, seed, key, workers=workers.count, engine=workers.engine, progress=progress).save(target)
        return
    infos = getattr(run.algorithm, "infos", {})
    with AppendableHDF5(path, run.spec, n, provenance(run, seed, key), infos) as file:
        if progress and file.written:
            say(f"Going on from row {file.written} of {str(file.part)!r}.")
        try:
            for made in chunks(run, n, seed, key, file.written, workers=workers, progress=progress):
                file.append(made)
        except KeyboardInterrupt:
            say(f"Stopped; {file.written} of {n} rows are in {str(file.part)!r}. The same command goes on from there.")
            raise
        file.finish()
