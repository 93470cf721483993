"""What a person sees of a training, and how they stop it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from datetime import timedelta
from types import FrameType
from typing import Any, Self

import numpy as np

LINE_EVERY = 30.0  # seconds between two lines where there is no terminal
SHOWN = 4  # metrics beside the bar


class Progress:
    """A bar with rate, time left and a note on a terminal; elsewhere a plain line now and then."""

    def __init__(
        self, title: str, total: int | None, done: int = 0, *, show: bool, unit: str = "updates", note: str = ""
    ):
        """`total` is None where nobody knows it."""
        self.title, self.total, self.unit, self.show = title, total, unit, show
        self.bar: Any = None
        self.spoke, self.began = time.monotonic(), time.perf_counter()
        self.done = self.before = done
        if show and sys.stderr.isatty():
            self.bar = _rich_bar()
            self.task = self.bar.add_task(title, total=total, completed=done, note=note, rate="")

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, rows: list[dict[str, float]]) -> None:
        """Show the rows (one a seed) of the segment of training that has just ended."""
        self.advance(int(rows[0]["step"]), rows[0]["updates_per_second"], _losses(rows))

    def tell(self, note: str) -> None:
        """Say what is done that brings the number no further."""
        if self.bar:
            self.bar.update(self.task, note=note)
        elif self.show:
            say(f"{self.title}: {note}")

    def more(self, n: int, note: str = "") -> None:
        """Show that n more are done, at the rate of all so far."""
        self.done += n
        self.advance(self.done, (self.done - self.before) / (time.perf_counter() - self.began), note)

    def advance(self, done: int, rate: float, note: str = "") -> None:
        """Show that so much is done, at so much a second; 0 where that is not known yet."""
        if self.bar:
            self.bar.update(self.task, completed=done, note=note, rate=_rate(rate))
        elif self.show and (done == self.total or time.monotonic() - self.spoke > LINE_EVERY):
            self.spoke = time.monotonic()
            if self.total is None:
                count, left = f"{done} {self.unit}", ""
            else:
                count = f"{done}/{self.total} {self.unit}"
                left = (
                    f"{timedelta(seconds=round((self.total - done) / rate))} left" if rate and done < self.total else ""
                )
            parts = [count, _rate(rate), left, note]
            say(f"{self.title}: {', '.join(filter(None, parts))}")


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    return Bar(*columns, console=Console(stderr=True))


def _rate(rate: float) -> str:
    if not rate:
        return ""
    return f"{rate:.4g}/s" if rate < 1000 else f"{rate:,.0f}/s"


def _losses(rows: list[dict[str, float]]) -> str:
    """The means over seeds of what is known: an evaluation's columns are not, between evaluations."""
    hidden = ("seed", "step", "seconds", "updates_per_second")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0] if name not in hidden}
    known = [f"{name} {np.nanmean(values):.4g}" for name, values in columns.items() if not np.isnan(values).all()]
    return "  ".join(known[:SHOWN])


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Interrupt:
    """Ctrl-C and SIGTERM, held back until the segment is done; a second one is a KeyboardInterrupt at once.

    Only the main thread receives signals; elsewhere, and when not `active`, nothing is held back.
    """

    def __init__(self, *, active: bool):
        self.active = active and threading.current_thread() is threading.main_thread()
        self.asked = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if self.active:
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        say("Stopping after the updates that are being made; once more to give them up.")


def wait(array: Any) -> None:
    """Until the array is computed. Unlike JAX's own wait it lets signals be handled in the meantime."""
    while not array.is_ready():
        time.sleep(0.001)
