"""The time that a training takes, and how often it is looked at."""

from __future__ import annotations

import time

from reverie.training.settings import Training

CHECKPOINT_SECONDS = 60.0
SHORT, LONG = 1.0, 4.0
"""Seconds between which a call of the program should take."""


class Pace:
    """How many updates one call of the program makes: one at first, and then as many as take a second or more, so that
    one sees soon how it goes, and can stop. `whole`: all of a segment at once."""

    def __init__(self, whole: bool):
        self.whole = whole
        self.begin()

    def begin(self) -> None:
        """With a program that has not been called yet."""
        self.count, self.calls, self.rate = 1, 0, 0.0
        self.last = time.perf_counter()

    def next(self, left: int) -> int:
        self.last = time.perf_counter()
        return left if self.whole else min(left, self.count)

    def took(self, count: int) -> None:
        """The call of so many is over. The first one compiles, which says nothing of the next."""
        seconds, self.calls = time.perf_counter() - self.last, self.calls + 1
        self.rate = count / seconds if self.calls > 1 else 0.0
        if self.calls > 1 and seconds < SHORT and count == self.count:
            self.count *= 2
        elif self.calls > 1 and seconds > LONG:
            self.count = max(1, int(count * SHORT / seconds))


class Clock:
    """Seconds of training, those of earlier sessions included, and when a checkpoint is due."""

    def __init__(self, before: float, saved: int):
        self.start = time.perf_counter() - before
        self.last = self.saved_at = time.perf_counter()
        self.done = self.saved = saved

    def times(self, done: int) -> tuple[float, float]:
        """(seconds so far, updates a second since this was last asked), at the end of a segment."""
        before, self.last = self.last, time.perf_counter()
        length, self.done = done - self.done, done
        return self.last - self.start, length / (self.last - before)

    def due(self, done: int, training: Training) -> bool:
        every = training.checkpoint_every
        if every is None:
            due = self.saved == 0 or self.last - self.saved_at >= CHECKPOINT_SECONDS
        else:
            due = done // every > self.saved // every
        if due or done == training.steps:
            self.saved, self.saved_at = done, self.last
            return True
        return False
