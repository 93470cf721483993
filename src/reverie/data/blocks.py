"""Several named arrays side by side as one, as a network takes a window or a transition, and apart again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.errors import DataError


@dataclass(frozen=True)
class Blocks:
    """Named blocks of columns, in order: `Blocks.of(actions=3, observations=11)`. Hashable, so static under `jit`."""

    widths: tuple[tuple[str, int | None], ...]
    """Every block's name and its columns. None is for a number a row: `[...]` without a last axis, one column."""

    def __post_init__(self) -> None:
        for name, width in self.widths:
            if width is not None and width < 1:
                raise DataError(f"Block {name!r} has width {width}; give at least 1, or None for a number a row.")

    @classmethod
    def of(cls, **widths: int | None) -> "Blocks":
        """Blocks of these widths, in the order in which they are given."""
        return cls(tuple(widths.items()))

    @classmethod
    def like(cls, batch: Mapping[str, Any], names: Sequence[str]) -> "Blocks":
        """The named blocks of a batch: of its vectors, or of its numbers a row where they have an axis less than the
        first of the names."""
        axes = batch[names[0]].ndim
        return cls(tuple((name, batch[name].shape[-1] if batch[name].ndim == axes else None) for name in names))

    @property
    def size(self) -> int:
        """Columns of all blocks."""
        return sum(width or 1 for _, width in self.widths)

    def join(self, batch: Mapping[str, Any]) -> Array:
        """The batch's blocks `[..., width]` (`[...]` where the width is None) as `[..., D]`; what else the batch has is
        left out. Raises DataError where a block has another width."""
        columns = [batch[name] if width else batch[name][..., None] for name, width in self.widths]
        for (name, width), column in zip(self.widths, columns, strict=True):
            if width and column.shape[-1] != width:
                raise DataError(f"Block {name!r} has {column.shape[-1]} columns, and {width} were declared.")
        return jnp.concatenate(columns, axis=-1)

    def split(self, x: Array) -> dict[str, Array]:
        """`[..., D]` as the blocks that `join` was given, by name. Raises DataError for another number of columns."""
        if x.shape[-1] != self.size:
            raise DataError(f"{x.shape[-1]} columns cannot be split into blocks of {self.size} ({self.widths}).")
        parts = {name: x[..., self.slice(name)] for name, _ in self.widths}
        return {name: parts[name] if width else parts[name][..., 0] for name, width in self.widths}

    def slice(self, name: str) -> slice:
        """The block's columns. Raises DataError for a block that is not there."""
        start = 0
        for block, width in self.widths:
            stop = start + (width or 1)
            if block == name:
                return slice(start, stop)
            start = stop
        raise DataError(f"There is no block {name!r}; there are {', '.join(block for block, _ in self.widths)}.")

    def mask(self, *names: str) -> np.ndarray:
        """True in the columns of these blocks: bool `[D]`, on the host and so a constant of a compiled program."""
        mask = np.zeros(self.size, bool)
        for name in names:
            mask[self.slice(name)] = True
        return mask
