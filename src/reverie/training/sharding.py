"""Data sharded over the devices of a training: each holds a part of the rows, and only batches are exchanged.

Every device is asked for the rows of all batches, gives those that it has and 0 for the others, and what all give is
summed, which leaves each row as it is (but for -0). Seeds need rows that lie with the devices of others too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from reverie.data.views import Rows, View
from reverie.errors import RunError
from reverie.training.placing import BATCH, SEEDS, placed

SMALL = 100
"""An array that takes less than this part of a view is on every device: looking it up would take an exchange more."""


class Sharded(View):
    """A view that is drawn from inside a `shard_map` over the seeds, as `loop.advance` does."""

    def specs(self) -> Any:
        """How its arrays lie over the seeds."""
        raise NotImplementedError


def specs_of(view: Any) -> Any:
    """How what all seeds draw from lies over them: as a whole, but for what is sharded."""
    return view.specs() if isinstance(view, Sharded) else P()


class ShardedArrays(Sharded):
    """A view whose arrays are sharded one by one, by their leading axis; rows beyond their ends are never drawn."""

    arrays: list[Array]
    """The view's: `[n * ceil(rows / n), ...]` those that are sharded over n devices, the others as they are."""
    numbers: Array
    """Each device's own: int32 `[n]`."""
    rows: tuple[int | None, ...] = eqx.field(static=True)
    """Of each array that is sharded; None of the others."""
    structure: Any = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)

    def specs(self) -> Any:
        lie: dict[str, Any] = {"arrays": [P() if rows is None else P(SEEDS) for rows in self.rows], "numbers": P(SEEDS)}
        return replace(self, **lie)

    def index(self, key: Array, batch_size: int) -> Array:
        return self._view().index(key, batch_size)

    def take(self, index: Array | np.ndarray) -> Rows:
        return self._view().take(index)

    def _view(self) -> Any:
        looked_up = [
            x if rows is None else ByRow((rows, *x.shape[1:]), x.dtype, partial(self._gathered, x, rows))
            for x, rows in zip(self.arrays, self.rows, strict=True)
        ]
        return jax.tree.unflatten(self.structure, looked_up)

    def _gathered(self, x: Array, rows: int, index: Array) -> Array:
        def local(part: tuple[Array, Array], index: Array) -> tuple[Array, Array]:
            own, number = part
            at = index - number[0] * len(own)
            return own[jnp.clip(at, 0, len(own) - 1)], (at >= 0) & (at < len(own))

        index = jnp.asarray(index, jnp.int32)
        within = jnp.clip(jnp.where(index < 0, index + rows, index), 0, rows - 1)  # as an array has it
        return exchanged(local, (x, self.numbers), P(BATCH), within, self.mesh)


class ByRow:
    """An array of which a view looks up rows, and asks for nothing else but its shape and type."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, gather: Callable[[Any], Array]):
        self.shape, self.ndim, self.dtype, self.gather = shape, len(shape), dtype, gather
        self.whole = False
        """Whether anything else was asked for."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        numbers = getattr(index, "ndim", 0) > 0 and jnp.issubdtype(index.dtype, jnp.integer)
        return self.gather(index) if numbers else self.__jax_array__()[index]

    def __jax_array__(self) -> Array:
        self.whole = True
        return jnp.zeros(self.shape, self.dtype)


class ShardedParts(Sharded):
    """Views of the devices' own episodes, drawn from as if they were one behind another."""

    view: View
    """Arrays with rows of episodes are `[n * rows, ...]`, those of each of the n devices filled up to one size."""
    counts: Array
    """What each device's part has to draw, the rest being there to fill it up: int32 `[n]`."""
    numbers: Array
    """As of `ShardedArrays`."""
    growing: tuple[bool, ...] = eqx.field(static=True)
    """Of every array of the view, whether it is sharded."""
    mesh: Mesh = eqx.field(static=True)

    def specs(self) -> Any:
        lie: dict[str, Any] = {"view": self._each(P(SEEDS)), "counts": P(), "numbers": P(SEEDS)}
        return replace(self, **lie)

    def _each(self, spec: Any) -> Any:
        return jax.tree.unflatten(jax.tree.structure(self.view), [spec if grows else P() for grows in self.growing])

    def index(self, key: Array, batch_size: int) -> Array:
        return jax.random.randint(key, (batch_size,), 0, self.counts.sum())

    def take(self, index: Array | np.ndarray) -> Rows:
        def local(part: tuple[View, Array, Array], index: Array) -> tuple[Rows, Array]:
            view, counts, number = part
            own = counts[number[0]]
            at = index - (jnp.cumsum(counts)[number[0]] - own)
            rows = view.take(jnp.clip(at, 0, jnp.maximum(own - 1, 0)))
            return {name: x for name, x in rows.items() if name != "index"}, (at >= 0) & (at < own)

        parts, specs = (self.view, self.counts, self.numbers), (self._each(P(BATCH)), P(), P(BATCH))
        return exchanged(local, parts, specs, jnp.asarray(index), self.mesh) | {"index": index}


def exchanged(local: Callable, parts: Any, specs: Any, index: Array, mesh: Mesh) -> Any:
    """The rows that `index` `[...]` numbers, wherever they lie: arrays `[..., ...]`. Of a seed's devices all ask alike.

    local: (a device's part, numbers `[..., ...]`) -> (rows of these numbers, whether it has each), what stands for
        those that it does not have being dropped.
    specs: how the `parts` lie over the devices of a seed.
    """
    n = len(index)
    filled = jnp.pad(index, [(0, -n % mesh.shape[BATCH]), *[(0, 0)] * (index.ndim - 1)])

    def of_device(parts: Any, index: Array) -> Any:
        rows, ours = local(parts, jax.lax.all_gather(index, SEEDS) if mesh.shape[SEEDS] > 1 else index[None])

        def summed(x: Array) -> Array:
            held = jnp.where(ours.reshape(*ours.shape, *[1] * (x.ndim - ours.ndim)), x, jnp.zeros((), x.dtype))
            held = held.astype(jnp.uint8) if x.dtype == bool else held
            flat = held.reshape(-1, *held.shape[2:])
            # To each device what it trains on: of its seed's batch, its part.
            return jax.lax.psum_scatter(flat, (SEEDS, BATCH), tiled=True).astype(x.dtype)

        return jax.tree.map(summed, rows)

    how: dict[str, Any] = {"in_specs": (specs, P()), "out_specs": P(BATCH), "axis_names": {BATCH}, "check_vma": False}
    return jax.tree.map(lambda x: x[:n], jax.shard_map(of_device, **how)(parts, filled))


def sharded(view: View, batch_size: int, mesh: Mesh) -> ShardedArrays:
    """The view, which every process has in its host's memory, over all devices of the mesh. What batches look up by
    rows is sharded; what is needed as a whole, and what is small, is on every device.

    Raises RunError where that is all of it.
    """
    leaves, structure = jax.tree.flatten(view)
    rows = tuple(
        len(x) if by_row and x.nbytes * SMALL >= view.nbytes else None
        for x, by_row in zip(leaves, looked_up(view, batch_size), strict=True)
    )
    if not any(rows):
        raise RunError(f"A {type(view).__name__} is needed as a whole in every draw; train without shard_data.")
    arrays = [placed(x, mesh) if n is None else _over_all(x, mesh) for x, n in zip(leaves, rows, strict=True)]
    return ShardedArrays(arrays, numbers_of(mesh), rows, structure, mesh)


def looked_up(view: View, batch_size: int) -> list[bool]:
    """Of each array of the view, whether a draw looks up rows of it and asks for nothing else. At no cost."""
    leaves, structure = jax.tree.flatten(view)

    def by_row(i: int) -> bool:
        x = leaves[i]
        asked = ByRow(x.shape, x.dtype, lambda index: jnp.zeros((*index.shape, *x.shape[1:]), x.dtype))
        changed = jax.tree.unflatten(structure, [*leaves[:i], asked, *leaves[i + 1 :]])
        try:
            jax.eval_shape(lambda key: changed.draw(key, batch_size), jax.random.key(0))
        except (TypeError, ValueError, AttributeError):  # of what only an array can do
            return False
        return not asked.whole

    return [x.ndim > 0 and by_row(i) for i, x in enumerate(leaves)]


def numbers_of(mesh: Mesh) -> Array:
    """As of `ShardedArrays`."""
    return placed(np.arange(mesh.size, dtype=np.int32), mesh, (SEEDS, BATCH))


def _over_all(x: Any, mesh: Mesh) -> Array:
    """Equally many rows on each device, with zeros behind the last."""
    host, each = np.asarray(x), -(-len(x) // mesh.size)

    def part(where: Any) -> np.ndarray:
        piece = host[where[0]]
        return np.pad(piece, [(0, each - len(piece)), *[(0, 0)] * (host.ndim - 1)])

    shape = (each * mesh.size, *host.shape[1:])
    return jax.make_array_from_callback(shape, NamedSharding(mesh, P((SEEDS, BATCH))), part)


def put_together(parts: list[Array], mesh: Mesh) -> Array:
    """The parts of this process's devices, of one shape each, with those of all others: `[n * rows, ...]`."""
    shape = (len(parts[0]) * mesh.size, *parts[0].shape[1:])
    return jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh, P((SEEDS, BATCH))), parts)
