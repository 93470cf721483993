"""What all synthesizers share: data come in chunks, each a function of the state and its own key alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from reverie.data import Dataset, Spec, concatenate
from reverie.protocols import Synthesizer
from reverie.settings import Acting, Count, Settings
from reverie.synthesizers import transition


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
        for first in range(start, n, self.chunk):
            rows = min(self.chunk, n - first)
            parts = self.chunk_rows(ready, spec, jax.random.fold_in(key, first // self.chunk), rows)
            named: Any = {"name": f"synthetic data by {self.name}", "synthetic": True, **self.about(spec)}
            yield transition.dataset(parts, spec, rows, **named)

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
