"""How a segment of updates is made: with the data on the device, in the host's memory, or read in a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np

from reverie.data.host import Prefetch, on_host
from reverie.errors import RunError
from reverie.learning import stages_of
from reverie.terminal import wait
from reverie.training import hosts, loop
from reverie.training.metrics import joined
from reverie.training.placing import SEEDS, fetched, gathered, placed
from reverie.training.settings import Training
from reverie.training.sharding import sharded
from reverie.training.streaming import Feed

GATHERED = 20
"""Updates whose batches are brought from the host's memory together."""

Advance = Callable[[Any, loop.Each, int, int, int], tuple[Any, dict[str, np.ndarray], np.ndarray]]
"""(states, each, updates before, updates to make, stage) -> (states, metrics [S, L], whether each state is finite)"""


def check_writes_nothing(algorithm: Any) -> None:
    """Raise RunError for a method that changes what it learns from: a data set stays as it is."""
    if writes := loop.written_columns(algorithm):
        raise RunError(
            f"{algorithm.name} changes {', '.join(writes)} of the data it learns from, which only a replay keeps; "
            "train it online."
        )


def check_keeps(algorithm: Any, **options: bool) -> None:
    """Raise RunError for more than one of the options for where the data are, and with any for a method that derives
    further columns of them in some stage: from all rows, and for every seed its own."""
    chosen = [name for name, taken in options.items() if taken]
    if len(chosen) > 1:
        raise RunError(f"{' and '.join(chosen)} keep the data in different places; choose one of the two.")
    if chosen and any(stage.derive is not None for stage in stages_of(algorithm)):
        raise RunError(
            f"{algorithm.name} derives further columns of the data; keep them on the device (without {chosen[0]})."
        )


def on_device(algorithm: Any, view: Any, training: Training, mesh: Any) -> Advance:
    """One compiled program a segment, batches drawn where the data lie."""
    shards = training.shard_data and mesh
    view = sharded(view, algorithm.batch_size, mesh) if shards else placed(view, mesh)
    return _compiled(algorithm, lambda done: view, training, mesh)


def streamed(algorithm: Any, feed: Feed, training: Training, mesh: Any) -> Advance:
    """The same program on one block after another: the block of an update is a function of the update's number."""
    updates = training.block_updates or 1
    last = (training.steps - 1) // updates
    return _compiled(algorithm, lambda done: feed.at(done // updates, last), training, mesh)


def in_one_call(training: Training) -> bool:
    """Whether a segment is one call of the program. On a CPU that takes any number of updates up to a segment's as an
    input, at no cost; an accelerator would ask the host at each of them whether it is the last. Processes that train
    together make their calls together, and batches from the host are gathered while a segment goes on."""
    return jax.default_backend() != "cpu" or hosts.several() or training.host_data


def _compiled(algorithm: Any, view_at: Callable[[int], Any], training: Training, mesh: Any) -> Advance:
    seeds_by = _seeds_by(training, mesh)
    whole = in_one_call(training)
    derived: dict[int, Any] = {}

    def advance(states: Any, each: loop.Each, done: int, length: int, stage: int) -> tuple[Any, ...]:
        view = view_at(done)
        if stage not in derived:
            derived.clear()
            derived[stage] = loop.derive(algorithm, states, each, view, stage=stage)
        number, count = placed((np.uint32(done), None if whole else np.uint32(length)), mesh)
        most = length if whole else training.segment
        how: dict[str, Any] = {"length": most, "seeds_by": seeds_by, "mesh": mesh, "stage": stage}
        states, metrics, finite, _ = loop.advance(algorithm, states, each, number, view, derived[stage], count, **how)
        wait(finite)
        metrics, finite = fetched((metrics, finite))
        return states, {name: values[:, :length] for name, values in metrics.items()}, finite

    return advance


def from_host(algorithm: Any, view: Any, training: Training, mesh: Any) -> Advance:
    """The same updates, bit for bit, on batches that are gathered in the host's memory in the background.

    For methods that `check_keeps` lets pass.
    """
    view = on_host(view)
    seeds_by = _seeds_by(training, mesh)
    # Only what the numbers of rows come from is in the program: the view's length, or what it draws by (bootstraps).
    drawn = jax.jit(partial(loop.indices, view, batch_size=algorithm.batch_size), static_argnames="length")

    here = loop.each_seed(training.seeds)
    how: dict[str, Any] = {"seeds_by": seeds_by, "mesh": mesh}

    def advance(states: Any, each: loop.Each, done: int, length: int, stage: int) -> tuple[Any, ...]:
        pieces = list(_pieces(done, length))
        numbers = (np.asarray(drawn(here, np.uint32(at), length=n)) for at, n in pieces)
        parts = []
        with Prefetch(lambda index: gathered(view, index, mesh), numbers) as batches:
            for (at, _), batch in zip(pieces, batches, strict=True):
                number = placed(np.uint32(at), mesh)
                states, metrics, finite = loop.advance_on(algorithm, states, each, number, batch, stage=stage, **how)
                wait(finite)
                parts.append(fetched((metrics, finite)))
        metrics = joined([part[0] for part in parts])
        return states, metrics, np.all([part[1] for part in parts], axis=0)

    return advance


def _seeds_by(training: Training, mesh: Any) -> loop.SeedsBy:
    """How each device trains the seeds that it has."""
    return loop.chosen_seeds_by(training.seeds_by, len(training.seeds) // (mesh.shape[SEEDS] if mesh else 1))


def _pieces(done: int, length: int) -> Iterator[tuple[int, int]]:
    for first in range(0, length, GATHERED):
        yield done + first, min(GATHERED, length - first)
