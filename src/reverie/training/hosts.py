"""Several processes, on one machine or many, that train one run together by JAX's distributed runtime.

All of them run the same program on the same data. The first one (`first`) writes the run's folder, which all can read.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np

from reverie.errors import LostProcessError, ReverieError, RunError

T = TypeVar("T")
SIZES = ("JAX_NUM_PROCESSES", "WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
RANKS = ("JAX_PROCESS_ID", "RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "JOB_COMPLETION_INDEX")
"""Variables that tell a process how many there are, and which it is: set by hand, by torchrun and what is like it
(Kubernetes' training operators), by Open MPI, by MPICH and Intel MPI, by Kubernetes' indexed jobs."""
LOST_AFTER = 30
"""Seconds without a sign of life after which a process counts as lost."""
PATIENCE = 7 * 24 * 3600 * 1000
"""Milliseconds for which one that gives signs of life is waited for."""
_meetings = itertools.count()


def join() -> None:
    """Make this process one of those that a launcher started to train together. Before JAX computes anything.

    Where the coordinator's address is in the environment (JAX_COORDINATOR_ADDRESS=HOST:PORT, or MASTER_ADDR and
    MASTER_PORT), the numbers are read from `SIZES` and `RANKS`; else JAX finds out by itself, which it does under
    SLURM, mpirun (Open MPI 4, or with mpi4py) and Kubernetes. Raises RunError where neither tells.
    """
    told = told_by(os.environ)
    try:
        jax.distributed.initialize(**told, heartbeat_timeout_seconds=LOST_AFTER)
    except (ValueError, TypeError, RuntimeError) as error:
        raise RunError(
            f"This process was told to train together with others, and cannot ({str(error).splitlines()[0]}); start it "
            "by srun, mpirun or torchrun, or set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID."
        ) from None


def told_by(environment: Mapping[str, str]) -> dict[str, Any]:
    """What `jax.distributed.initialize` is to be told; nothing where the environment has no address, and JAX looks for
    itself, and the address alone where it has no numbers. Raises RunError for numbers that are none."""
    address = environment.get("JAX_COORDINATOR_ADDRESS")
    if address is None and "MASTER_ADDR" in environment:
        address = f"{environment['MASTER_ADDR']}:{environment.get('MASTER_PORT', '29500')}"
    if address is None:
        return {}
    size, rank = (_number(environment, names) for names in (SIZES, RANKS))
    if size is None or rank is None:
        return {"coordinator_address": address}
    return {"coordinator_address": address, "num_processes": size, "process_id": rank}


def _number(environment: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    name = next((name for name in names if name in environment), None)
    if name is None:
        return None
    if not environment[name].isdecimal():
        raise RunError(f"{name}={environment[name]!r} must be a whole number.")
    return int(environment[name])


def several() -> bool:
    return jax.process_count() > 1


def first() -> bool:
    """Whether this process is the one that writes, shows and evaluates; it is where it is alone."""
    return jax.process_index() == 0


def any_of(*flags: bool) -> list[bool]:
    """Which of the flags are raised in any of the processes: a call that all of them make, and wait in for the last.

    Raises LostProcessError, there and in all that follow, when one of them is gone.
    """
    if not several():
        return list(flags)
    from jax.experimental.multihost_utils import process_allgather
    from orbax.checkpoint.multihost import get_barrier_sync_fn

    with losing(lambda: ""):
        # By the coordinator first: what devices exchange gives up on a process that is late, as by an evaluation.
        get_barrier_sync_fn()(key=f"reverie {next(_meetings)}", timeout_ms=PATIENCE)
        return [bool(each) for each in np.any(process_allgather(np.array(flags)), axis=0)]


@contextmanager
def together() -> Iterator[None]:
    """What all processes do, or none: where one fails by an error of the user's, the others raise RunError.

    Leaving it is a meeting too: what one of them wrote in it, all can read after it.
    """
    error = None
    try:
        yield
    except ReverieError as raised:
        error = raised
    (failed,) = any_of(error is not None)
    if error is not None:
        raise error
    if failed:
        raise RunError("Another process of this training cannot go on; its own message says why.")


def in_turn(work: Callable[[], T]) -> T:
    """What `work()` gives in each process; the others' turn comes after the first's, whose files they then find, such
    as data that are made when first asked for."""
    with together():
        ours = work() if first() else None
    return work() if ours is None else ours


@contextmanager
def losing(kept: Callable[[], str]) -> Iterator[None]:
    """A process that is gone as LostProcessError, which says what is `kept()`."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, LostProcessError) as error:
        if not several():
            raise
        said = error.cause if isinstance(error, LostProcessError) else str(error).splitlines()[0][:160]
        raise LostProcessError(said, kept()) from None
