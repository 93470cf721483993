"""What all synthesizers share: data come in chunks, each a function of the state and its own key alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from reverie.data import Dataset, Spec, concatenate
from reverie.errors import ReverieError
from reverie.protocols import Synthesizer
from reverie.settings import Acting, Count, Settings
from reverie.synthesizers import transition

PASSES = 200
"""For one chunk of episodes, at most."""
BARREN = 20
"""As many without a row, and it is given up."""


@dataclass(frozen=True)
class Chunked(Settings, Synthesizer):
    """The frame of a synthesizer of transitions; it adds `chunk_rows`."""

    name: ClassVar[str]
    role: ClassVar[str] = "synthesizer"
    needs: ClassVar[tuple[str, ...]] = ("rewards", "terminals")

    chunk: Acting[Count] = 1000
    """Rows generated, and kept on the disk, at a time. Another number makes other data."""

    def generate(self, state, spec: Spec, key, n: int) -> Dataset:
        """n transitions."""
        return concatenate(*self.chunks(state, spec, key, n))

    def chunks(self, state, spec: Spec, key, n: int, start: int = 0) -> Iterator[Dataset]:
        """Rows start, ..., n - 1 of `generate`, a chunk at a time; `start` is a multiple of `chunk`.

        Chunk i is a function of the state, the specification and of `fold_in(key, i)` alone.
        """
        ready = self.ready(state, spec)
        for first, stop in self.pieces(n, start):
            rows = stop - first
            parts = self.chunk_rows(ready, spec, jax.random.fold_in(key, first // self.chunk), rows)
            named: Any = {"name": f"synthetic data by {self.name}", "synthetic": True, **self.about(spec)}
            yield transition.dataset(parts, spec, rows, **named)

    def pieces(self, n: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """The first row of every chunk, and the one after its last."""
        for first in range(start, n, self.chunk):
            yield first, min(first + self.chunk, n)

    def about(self, spec: Spec) -> dict[str, Any]:
        """Further attributes of the data that are made, plain values."""
        return {}

    def ready(self, state, spec: Spec) -> Any:
        """What is computed once for all chunks."""
        return state

    def chunk_rows(self, ready: Any, spec: Spec, key, rows: int) -> dict[str, Any]:
        """At least `rows` transitions by name, in the data's units; without "timeouts" each is an episode. Infos are
        named "infos/NAME"."""
        raise NotImplementedError


@dataclass(frozen=True)
class Episodic(Chunked):
    """The frame of a synthesizer of episodes, which come in passes, however many rows each makes."""

    name: ClassVar[str]

    def chunk_rows(self, ready: Any, spec: Spec, key, rows: int) -> dict[str, Any]:
        """The last episode is cut where the chunk is full. Raises ReverieError where hardly any pass makes rows."""
        parts = self.packed(ready, spec, key)
        parts["timeouts"][rows - 1] = not parts["terminals"][rows - 1]
        return parts

    def packed(self, ready: Any, spec: Spec, key) -> dict[str, np.ndarray]:
        """A chunk of rows, from as many passes as it takes."""
        passes: list[dict[str, np.ndarray]] = []
        count = 0
        while count < self.chunk and len(passes) < (PASSES if count else min(BARREN, PASSES)):
            passes.append(self.episodes(ready, spec, jax.random.fold_in(key, len(passes))))
            count += len(passes[-1]["actions"])
        if count < self.chunk:
            raise ReverieError(self.too_few(ready, spec, key, len(passes), count))
        return {name: np.concatenate([each[name] for each in passes])[: self.chunk] for name in passes[0]}

    def episodes(self, ready: Any, spec: Spec, key) -> dict[str, np.ndarray]:
        """A pass: episodes one after another, any number of rows by name, in the data's units, with "terminals" where
        the task ended and "timeouts" where one is cut."""
        raise NotImplementedError

    def too_few(self, ready: Any, spec: Spec, key, passes: int, rows: int) -> str:
        """The sentence for so few rows of a chunk's passes: what would do."""
        raise NotImplementedError
