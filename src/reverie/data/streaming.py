"""Data sets larger than memory: a folder of shards, of which a block at a time is read.

An epoch is all shards in an order of its own, cut into blocks of equally many (up to one), so that each shard is in one
block of every epoch. The order depends on the epoch's number alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from typing import Any

import jax
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset, concatenate
from reverie.data.fields import Field, Space
from reverie.data.normalisers import Normaliser
from reverie.data.shard_layout import read_header
from reverie.data.shards import read_shards
from reverie.data.spec import Spec, columns
from reverie.data.views import Rows, View
from reverie.errors import DataError

BLOCK_BYTES = 64 * 2**20
"""Of a block's rows as they are stored, about, where its size is not given."""
AT_ONCE = 2**14
"""Rows that are normalised together. A number that stays: for another one the compiler would work anew."""


class Streamed:
    """A folder of shards that is trained on without being read into memory.

    `block_rows` are about those of a block; as many as take 64 MB if not given.
    """

    def __init__(self, folder: str, block_rows: int | None = None):
        """Raises DataError where the folder is none of a data set, and for less than one row."""
        self.header = header = read_header(folder)
        if block_rows is not None and block_rows < 1:
            raise DataError(f"block_rows={block_rows} must be at least 1.")
        self.block_rows = block_rows or max(1, BLOCK_BYTES // header.row_bytes)
        self.attributes = {**header.attributes, "source": f"parquet:{folder}"}
        count = len(header.shards)
        together = max(1, self.block_rows * count // header.rows)
        self.blocks = ceil(count / together)
        """In an epoch."""

    def __len__(self) -> int:
        return self.header.rows

    def __repr__(self) -> str:
        return f"Streamed({str(self.header.folder)!r}: {len(self)} steps, {self.blocks} blocks an epoch)"

    @property
    def fingerprint(self) -> str:
        """Of all shards, from what the header says of them: SHA-256 (hex)."""
        return self.header.fingerprint

    @property
    def observation_space(self) -> Space:
        return self.header.space("observations")

    @property
    def action_space(self) -> Field:
        space = self.header.space("actions")
        assert isinstance(space, Field)
        return space

    @property
    def most_rows(self) -> int:
        """Of a block, at most."""
        return self.most_rows_of(1)

    def most_rows_of(self, parts: int) -> int:
        """Of each of so many parts of a block, at most."""
        rows = sorted((shard.rows for shard in self.header.shards), reverse=True)
        return sum(rows[: ceil(ceil(len(rows) / self.blocks) / parts)])

    @property
    def fewest_shards(self) -> int:
        """Of a block, at least."""
        return len(self.header.shards) // self.blocks

    def drawn(self, block: int) -> tuple[int, ...]:
        """The shards of that block, counted from 0 through all epochs, in ascending order."""
        epoch, within = divmod(block, self.blocks)
        order = np.random.default_rng(epoch).permutation(len(self.header.shards))
        return tuple(sorted(np.array_split(order, self.blocks)[within].tolist()))

    def read(self, numbers: Sequence[int]) -> Dataset:
        """These shards, with the bounds of all actions. Raises DataError where one is missing or damaged."""
        data = read_shards(self.header, numbers)
        if data.action_low is not None or self.blocks == 1:
            return data
        low, high = self._action_bounds
        return replace(data, action_low=low, action_high=high)

    @cached_property
    def _action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """As of `Dataset.action_bounds`; agents share theirs."""
        shape, moments = self.action_space.shape, self.header.moments["actions"]
        inside = bool(np.all(moments.low >= -1) and np.all(moments.high <= 1))
        low, high = (-1.0, 1.0) if inside else (moments.low, moments.high)
        return np.full(shape, low, np.float32), np.full(shape, high, np.float32)

    def sample(self) -> Dataset:
        """What stands for all the data where more than moments is asked for: all of them, if they are one block, else
        as many shards as a block has, evenly spaced, and the longest episode, those with the least and largest sum of
        rewards, and of costs."""
        count = len(self.header.shards)
        numbers = np.unique(np.linspace(0, count - 1, ceil(count / self.blocks)).round().astype(int)).tolist()
        if self.blocks == 1:
            return self.read(numbers)
        beside = sorted({pair for pair in self.header.extremes if pair[0] not in numbers})
        return concatenate(
            self.read(numbers), *(self.read([shard]).take_episodes([episode]) for shard, episode in beside)
        )

    def fitted(self, spec: Spec, sample: Dataset) -> Spec:
        """A specification that was made of the sample, with the moments of all the data in place of the sample's.

        Means, deviations and ranges of the data's own columns are all the data's, of every row. What is computed from
        the columns, such as returns, and quantiles are the sample's.
        """
        if self.blocks == 1:
            return spec
        return replace(spec, normalisers={key: self._whole(key, x, sample) for key, x in spec.normalisers.items()})

    def _whole(self, key: str, found: Normaliser, sample: Dataset) -> Normaliser:
        moments = self.header.moments.get(key) or self.header.moments.get(f"infos/{key}")
        whole = moments and moments.normaliser(type(found))
        if not whole:
            return found
        for data in (sample, sample.with_next_observations()):
            fitted = type(found).fit(columns(data, key)[key])
            if all(np.allclose(x, y) for x, y in zip(jax.tree.leaves(fitted), jax.tree.leaves(found), strict=True)):
                return jax.device_put(whole)
        return found


class HostSpec(Spec):
    """A specification that gives numpy arrays for numpy's, and takes no more memory or compiling for many rows."""

    @classmethod
    def of(cls, spec: Spec) -> "HostSpec":
        known = jax.tree.map(np.asarray, (spec.action_low, spec.action_high, spec.normalisers, spec.kept))
        return cls(spec.observation, spec.action, *known)

    def _mapped(self, key: str, x: Any, function: Callable[[Normaliser, Any], Array]) -> Any:
        if isinstance(x, Mapping) or not isinstance(x, np.ndarray):
            return super()._mapped(key, x, function)
        if key not in self.normalisers:
            return x
        made = np.empty(x.shape, np.float32)
        for start in range(0, len(x), AT_ONCE):
            piece = x[start : start + AT_ONCE]
            filled = np.pad(piece, [(0, AT_ONCE - len(piece)), *[(0, 0)] * (x.ndim - 1)], mode="edge")
            made[start : start + AT_ONCE] = np.asarray(function(self.normalisers[key], filled))[: len(piece)]
        return made


class Part(View):
    """The first `count` of what a view draws; the rest is there to make all parts of one size."""

    view: View
    count: Array
    """int32, a number."""

    def index(self, key: Array, batch_size: int) -> Array:
        return jax.random.randint(key, (batch_size,), 0, self.count)

    def take(self, index: Array | np.ndarray) -> Rows:
        return self.view.take(index)
