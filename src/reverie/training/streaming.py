"""Training on data that are read in a stream: a block is trained on while the next one is read in the background."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from reverie.data import Dataset, Spec
from reverie.data.host import host_memory
from reverie.data.streaming import HostSpec, Part, Streamed
from reverie.errors import DataError, ReverieWarning, RunError
from reverie.learning import stages_of
from reverie.training.placing import BATCH, SEEDS, placed
from reverie.training.sharding import ShardedParts, numbers_of, put_together

LOOKED_AT = 2**15
"""Rows, about, on which it is seen whether a method can learn from blocks."""


class Layout(NamedTuple):
    """How the view of a block is put together."""

    structure: Any
    growing: list[bool]
    """Of every array, whether it has more rows where there are more episodes."""
    shapes: list[tuple[int, ...]]
    """Of every array, without these rows."""


def check_streams(algorithm: Any, host_data: bool) -> None:
    """Raise RunError for what is only done with data in memory."""
    if host_data:
        raise RunError("host_data keeps all data in memory, and a stream a block of them; choose one of the two.")
    if any(stage.derive is not None for stage in stages_of(algorithm)):
        raise RunError(f"{algorithm.name} derives further columns of all the data; train it on data in memory.")


def default_updates(data: Streamed, batch_size: int, segment: int) -> int:
    """On a block: as many as draw each of its rows once on average, in whole segments."""
    return max(1, round(data.most_rows / batch_size / segment)) * segment


class Feed:
    """The blocks of a stream, one after another."""

    def __init__(
        self, algorithm: Any, data: Streamed, spec: Spec, layout: Layout, mesh: Mesh | None = None, shard: bool = False
    ):
        """shard: each device has files of its own of a block, and each process reads those of its devices."""
        self.algorithm, self.data, self.spec, self.layout = algorithm, data, HostSpec.of(spec), layout
        self.mesh, self.shard = mesh, shard and mesh is not None
        self.reader = ThreadPoolExecutor(1, "reverie-blocks")
        self.ready: dict[tuple[int, ...], Future[Part | ShardedParts]] = {}

    def at(self, number: int, last: int) -> Part | ShardedParts:
        """The block of that number; from then on the next is read, up to the last. Raises DataError where a shard
        cannot be."""
        wanted = [self.data.drawn(each) for each in range(number, min(number + 1, last) + 1)]
        self.ready = {shards: future for shards, future in self.ready.items() if shards in wanted}
        for shards in wanted:
            if shards not in self.ready:
                self.ready[shards] = self.reader.submit(self._made, shards)
        return self.ready[wanted[0]].result()

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the thread, after the block that it is reading."""
        self.ready = {}
        self.reader.shutdown(cancel_futures=True)

    def _made(self, shards: tuple[int, ...]) -> Part | ShardedParts:
        if self.shard:
            return self._made_of_parts(shards)
        leaves, count = self._leaves(shards)
        for i, grows in enumerate(self.layout.growing):  # one after another, so that few are there twice
            leaves[i] = placed(_filled(leaves[i], self.data.most_rows) if grows else leaves[i], self.mesh)
        return Part(jax.tree.unflatten(self.layout.structure, leaves), placed(np.int32(count), self.mesh))

    def _made_of_parts(self, shards: tuple[int, ...]) -> ShardedParts:
        """Files in a row are a device's, in the order of the mesh."""
        mesh: Any = self.mesh
        rows, files = self.data.most_rows_of(mesh.size), np.array_split(shards, mesh.size)
        counts = np.zeros(mesh.size, np.int32)
        parts: list[list[Any]] = [[] for _ in self.layout.growing]
        for number, device in enumerate(mesh.devices.flat):
            if device.process_index != jax.process_index():
                continue
            leaves, counts[number] = self._leaves(files[number].tolist())
            for i, grows in enumerate(self.layout.growing):
                parts[i].append(jax.device_put(_filled(leaves[i], rows), device) if grows else leaves[i])
        whole: list[Any] = [
            put_together(each, mesh) if grows else placed(each[0], mesh)
            for each, grows in zip(parts, self.layout.growing, strict=True)
        ]
        view = jax.tree.unflatten(self.layout.structure, whole)
        counted = placed(counts, mesh, (SEEDS, BATCH))
        return ShardedParts(view, counted, numbers_of(mesh), tuple(self.layout.growing), mesh)

    def _leaves(self, shards: Sequence[int]) -> tuple[list[np.ndarray], int]:
        """The arrays of these shards' view, and how many it draws from."""
        view = _prepared(self.algorithm, self.data.read(shards), self.spec)[0]
        leaves, growing, count = jax.tree.leaves(view), self.layout.growing, len(view)
        del view
        shapes = [_rest(*pair) for pair in zip(leaves, growing, strict=False)]
        if len(leaves) != len(growing) or shapes != self.layout.shapes:
            raise RunError(f"{self.algorithm.name} makes of some blocks other arrays than of others; {IN_MEMORY}")
        return list(map(np.asarray, leaves)), count


IN_MEMORY = "train it on data in memory (without --stream)."


def prepared(
    algorithm: Any, data: Streamed, spec: Spec | None, mesh: Mesh | None = None, shard: bool = False
) -> tuple[Feed, Spec]:
    """The blocks, and the specification: the one given, or that of all the data.

    Raises RunError for a method that makes of a block another thing than of all the data, and where a block that is
    sharded may have fewer files than there are devices.
    """
    if shard and mesh is not None and data.fewest_shards < mesh.size:
        raise RunError(
            f"A block of this stream may be of {data.fewest_shards} files, and {mesh.size} devices share it; give "
            "larger blocks (block_rows=, --block-rows), or write smaller shards."
        )
    sample = data.sample()
    if spec is None:
        spec = data.fitted(_prepared(algorithm, sample)[1], sample)
    return Feed(algorithm, data, spec, layout(algorithm, sample, HostSpec.of(spec)), mesh, shard), spec


def _prepared(algorithm: Any, data: Dataset, *spec: Spec) -> tuple[Any, Spec]:
    with host_memory(), warnings.catch_warnings():
        # Of few rows: a block has them, the data do not.
        warnings.simplefilter("ignore", ReverieWarning)
        return algorithm.prepare(data, *spec)


def layout(algorithm: Any, sample: Dataset, spec: Spec) -> Layout:
    """Of the views of blocks, whatever episodes are in them.

    Raises RunError where the rows of some episodes depend on which others there are, which a block cannot know, where
    the run would keep rows of every block, and where rows are not drawn uniformly. DataError for a single episode.
    """
    lengths = np.diff(sample.episodes)[:, 0]
    if len(lengths) < 2:
        raise DataError("A stream needs shards of at least two episodes in all; train on such data in memory.")
    longest = int(lengths.argmax())  # in both, so that both have windows if any has
    few = max(2, int(np.searchsorted(np.cumsum(lengths), LOOKED_AT)))
    first, second = np.array_split(np.delete(np.arange(len(lengths)), longest)[:few], 2)
    part, again = _prepared(algorithm, sample.take_episodes([longest, *second]), spec)
    whole, _ = _prepared(algorithm, sample.take_episodes([longest, *second, longest, *first]), spec)
    if not _same(again, spec):
        raise RunError(f"{algorithm.name} keeps rows of all the data with the run; {IN_MEMORY}")
    few_rows, more_rows = (jax.tree.leaves(view) for view in (part, whole))
    if len(few_rows) != len(more_rows) or not all(map(_continues, few_rows, more_rows)):
        raise RunError(f"{algorithm.name} makes of an episode what depends on all others; {IN_MEMORY}")
    key = jax.random.key(0)
    if not np.array_equal(part.index(key, 8), jax.random.randint(key, (8,), 0, len(part))):
        raise RunError(f"{algorithm.name} does not draw all rows alike; {IN_MEMORY}")
    growing = [x.shape != y.shape for x, y in zip(few_rows, more_rows, strict=True)]
    shapes = [_rest(*pair) for pair in zip(few_rows, growing, strict=True)]
    return Layout(jax.tree.structure(part), growing, shapes)


def _same(first: Any, second: Any) -> bool:
    leaves, structure = jax.tree.flatten(first)
    others, other = jax.tree.flatten(second)
    return str(structure) == str(other) and all(map(np.array_equal, leaves, others))


def _continues(few: Any, more: Any) -> bool:
    """Whether the first rows of `more` are those of `few`, or both are the same."""
    if few.shape == more.shape:
        return np.array_equal(few, more)
    return few.shape[1:] == more.shape[1:] and np.array_equal(few, np.asarray(more)[: len(few)])


def _rest(x: Any, growing: bool) -> tuple[int, ...]:
    return tuple(x.shape[1:] if growing else x.shape)


def _filled(x: np.ndarray, rows: int) -> np.ndarray:
    filled = np.zeros((rows, *x.shape[1:]), x.dtype)
    filled[: len(x)] = x
    return filled
