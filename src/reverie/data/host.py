"""Data that do not fit the device: views in the host's memory, and batches brought to the device ahead of their use.

    with host_memory():
        view, spec = algorithm.prepare(data)
    with Prefetch(on_host(view).take, indices) as batches:
        for batch in batches: ...

The numbers of a batch come from `view.index`, as on the device, so its bits are the same wherever the data lie.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import jax
import numpy as np

from reverie.data.views import Rows, View

AView = TypeVar("AView", bound=View)
AHEAD = 2
"""Batches that wait for their use, at most: one more hides no more time, and takes memory of the device."""


def host_memory() -> AbstractContextManager[Any]:
    """A context in which new arrays are made in the host's memory, those of a view that is being built for instance.

    They are bound to no device: a compiled program on another takes them as its arguments.
    """
    return jax.default_device(jax.local_devices(backend="cpu")[0])


def on_host(view: AView) -> AView:
    """The view with numpy arrays, whose `take` makes numpy batches; nothing is copied that is there already."""
    return jax.tree.map(np.asarray, view)


class Prefetch(Iterator[Rows]):
    """Batches that a thread gathers while the last one is used.

    What goes wrong in the thread, in gathering or in `indices`, is raised by the next batch's `next`. Close it, or use
    it as a context, to end the thread before the indices end.
    """

    def __init__(self, gather: Callable[[np.ndarray], Rows], indices: Iterable[Any]) -> None:
        """`gather` makes the batch of an array `[..., B]` of `view.index`: a view's `take`, or more than that, such as
        bringing it to a device. `indices` gives the arrays; it is read in the thread, and `close` waits for it."""
        self._ready: queue.SimpleQueue[tuple[Rows | None, BaseException | None]] = queue.SimpleQueue()
        self._room, self._closed = threading.Semaphore(AHEAD), False
        work: dict[str, Any] = {"target": self._gather, "args": (gather, indices)}
        self._thread = threading.Thread(**work, name="reverie-prefetch", daemon=True)
        self._thread.start()

    def _gather(self, gather: Callable[[np.ndarray], Rows], indices: Iterable[Any]) -> None:
        error = None
        try:
            for index in indices:
                self._room.acquire()
                if self._closed:
                    break
                self._ready.put((gather(np.asarray(index)), None))
        except BaseException as raised:
            error = raised
        self._ready.put((None, error))

    def __next__(self) -> Rows:
        if self._closed:
            raise StopIteration
        batch, error = self._ready.get()
        self._room.release()
        if batch is None:
            self.close()
            raise error or StopIteration
        return batch

    def close(self) -> None:
        """Ends the thread and drops what it had gathered; afterwards there are no more batches."""
        self._closed = True
        self._room.release()
        self._thread.join()
        self._ready = queue.SimpleQueue()

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()
