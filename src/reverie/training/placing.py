"""Where a training's arrays lie: the seeds over the devices first, then each batch over those that share a seed.

A seed needs nothing of another: seeds over devices exchange nothing. The rows of a batch over devices exchange the sum
of the gradients in every update. Either rounds otherwise than a single device.
"""

from __future__ import annotations

import os
from contextlib import suppress
from math import gcd
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from reverie.compilation import cores
from reverie.errors import RunError

SEEDS, BATCH = "seeds", "batch"
"""The mesh's axes."""

MOST_COPIED = 2**30
"""Bytes of data of which every CPU device has a copy of its own, where nobody asked for several."""


def use_every_core() -> None:
    """Have JAX see a CPU device for each core, among which `device_mesh` divides the seeds.

    Seeds on a core each need not wait for each other; cores that share the small products of one program mostly do. The
    command line's `train` calls this; a program that uses Reverie as a library may, before anything is computed. Does
    nothing once JAX has begun, or where XLA_FLAGS or `jax_num_cpu_devices` say how many there are.
    """
    flags, config = os.environ.get("XLA_FLAGS", ""), jax.config.values
    if "host_platform_device_count" in flags or config["jax_num_cpu_devices"] > 0:
        return
    with suppress(RuntimeError):  # it has begun
        jax.config.update("jax_num_cpu_devices", cores())


def device_mesh(devices: int | None, seeds: int, batch_size: int, copied: int = 0) -> Mesh | None:
    """The devices of a training, as a mesh `[SEEDS, BATCH]`; None for a single one.

    None of `devices` is all where several processes train together. Of one process's CPU devices it is as many as
    seeds divide among equally, if the bytes `copied` to each are not many, and of accelerators one. Raises RunError
    when there are fewer devices, when processes would be left without, or when the batch does not divide among them.
    """
    present, together = jax.devices(), jax.process_count() > 1
    if devices is None:
        alone = present[0].platform != "cpu" or copied > MOST_COPIED
        shared = 1 if alone else next(n for n in range(min(len(present), seeds), 0, -1) if seeds % n == 0)
        devices = len(present) if together else shared
    if not 1 <= devices <= len(present):
        raise RunError(
            f"devices={devices} was asked for, and JAX sees {len(present)} ({present[0].platform}); give devices= "
            "(--devices) of these."
        )
    if together and devices < len(present):
        raise RunError(
            f"devices={devices} was asked for, and {jax.process_count()} processes train together on "
            f"{len(present)}; leave it out, to take all."
        )
    if devices == 1:
        return None
    over_seeds = seeds_axis(devices, seeds, len(jax.local_devices()) if together else devices)
    if batch_size % (devices // over_seeds):
        raise RunError(
            f"batch_size={batch_size} does not divide among the {devices // over_seeds} of devices={devices} that "
            "share it; choose a multiple."
        )
    return Mesh(np.array(present[:devices]).reshape(over_seeds, -1), (SEEDS, BATCH))


def seeds_axis(devices: int, seeds: int, local: int) -> int:
    """Over how many the seeds are divided: as many as divide both, so that a process's `local` devices are whole rows
    of the mesh or parts of one."""
    shared = gcd(devices, seeds)
    fits = (n for n in range(shared, 0, -1) if shared % n == 0)
    return next(n for n in fits if (devices // n) % local == 0 or local % (devices // n) == 0)


def placed(tree: Any, mesh: Mesh | None, *axes: str | tuple[str, ...] | None) -> Any:
    """The tree, the same in every process, on the mesh's devices: its arrays' leading axes over `axes`, copies of it
    over the others. Without a mesh on the default device."""
    if mesh is None:
        return jax.device_put(tree)
    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, P(*axes))), tree)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(jax.numpy.result_type(leaf), jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))
    # Not device_put, by which the processes would first compare what each has.
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])


def gathered(view: Any, index: np.ndarray, mesh: Mesh | None) -> Any:
    """Batches of a view in the host's memory, numbered by `index` `[L, S, B]`, on the mesh. A process gathers only the
    rows that its devices train on."""
    if mesh is None:
        return jax.device_put(view.take(index))
    sharding = NamedSharding(mesh, P(None, SEEDS, BATCH))
    parts: Any = sharding.addressable_devices_indices_map(index.shape).values()
    bounds = [[part.indices(size)[:2] for part, size in zip(each, index.shape, strict=True)] for each in parts]
    own = tuple(slice(min(a for a, _ in axis), max(b for _, b in axis)) for axis in zip(*bounds, strict=True))
    rows = view.take(index[own])
    whole = jax.make_array_from_process_local_data
    return jax.tree.map(lambda leaf: whole(sharding, leaf, (*index.shape, *leaf.shape[3:])), rows)


def fetched(tree: Any) -> Any:
    """All of the tree in this host's memory, wherever it lies: a call that every process makes."""
    return jax.device_get(_here(tree))


def home(tree: Any) -> Any:
    """All of the tree on this process's default device, wherever it lies: a call that every process makes."""
    here = _here(tree)
    return jax.device_put(here if here is tree else jax.device_get(here), jax.local_devices()[0])


def _here(tree: Any) -> Any:
    """The tree itself, or where a part of it lies with other processes copies of it all on every device."""
    places = [leaf.sharding for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    away: Any = next((place for place in places if not place.is_fully_addressable), None)
    if away is None:
        return tree
    return jax.jit(lambda tree: tree, out_shardings=NamedSharding(away.mesh, P()))(tree)
