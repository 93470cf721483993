"""Where work beside this process runs: in threads of its own, or on a Ray cluster."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol

from reverie.errors import ReverieError

Kind = Literal["local", "ray"]


class Engine(Protocol):
    """What `concurrent.futures` has of an executor."""

    def submit(self, function: Any, /, *arguments: Any) -> Future: ...

    def shutdown(self, wait: bool = True) -> None: ...


def engine(kind: Kind, jobs: int) -> Engine:
    """For so many jobs at a time. Raises ReverieError where Ray is asked for and not installed."""
    return ThreadPoolExecutor(jobs) if kind == "local" else Ray(jobs)


class Ray:
    """The cluster that RAY_ADDRESS names, else one of this machine's own. Its machines must have Reverie installed, and
    see the folders that are worked in."""

    def __init__(self, jobs: int):
        try:
            import ray
        except ImportError:
            raise ReverieError('The engine "ray" needs ray: pip install "reverie[ray]".') from None
        self.ray = ray
        if not ray.is_initialized():
            local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": jobs}
            ray.init(log_to_driver=False, include_dashboard=False, **local)

    def submit(self, function: Any, /, *arguments: Any) -> Future:
        return self.ray.remote(num_cpus=1, max_retries=0)(function).remote(*arguments).future()

    def shutdown(self, wait: bool = True) -> None:
        self.ray.shutdown()
