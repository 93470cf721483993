"""The clock of a training: how much one call of the program makes, and that what it makes does not depend on that."""

import os
import signal
from functools import partial

import numpy as np
import pytest
from tiny_algorithm import TinyBC, leaves, synthetic

import reverie
from reverie.training import clock

DATA = synthetic()
fit = partial(reverie.fit, progress=False)


def test_the_pace_is_a_second_or_more_in_a_call_and_the_first_says_nothing(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def calls(pace, seconds, n, left=1000):
        made = []
        for _ in range(n):
            made.append(pace.next(left))
            now[0] += seconds * made[-1] + (30 if not pace.calls else 0)
            pace.took(made[-1])
        return made

    fast = clock.Pace(False)
    assert calls(fast, 0.01, 1) == [1] and fast.rate == 0
    assert calls(fast, 0.01, 9) == [1, 2, 4, 8, 16, 32, 64, 128, 128] and fast.rate == pytest.approx(100)
    fast.begin()
    assert calls(fast, 0.01, 3) == [1, 1, 2]
    assert calls(clock.Pace(False), 5.0, 3) == [1, 1, 1]
    assert calls(clock.Pace(False), 0.01, 5, left=3) == [1, 1, 2, 3, 3]
    assert calls(clock.Pace(True), 5.0, 2) == [1000, 1000]


def test_a_stop_does_not_wait_for_the_segment_and_what_goes_on_is_the_same(tmp_path, monkeypatch):
    """The updates that are made are those before; only the metrics have a row more."""
    run, took = fit(TinyBC(), DATA, steps=60, seeds=3, segment=20), clock.Pace.took

    def asking(self, count):
        took(self, count)
        if self.calls == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(clock.Pace, "took", asking)
    with pytest.raises(KeyboardInterrupt):
        fit(TinyBC(), DATA, steps=60, seeds=3, segment=20, out=tmp_path / "run")
    monkeypatch.undo()
    stopped = reverie.load(tmp_path / "run").step
    assert stopped == 16
    whole = fit(TinyBC(), DATA, steps=60, seeds=3, segment=20, out=tmp_path / "run", resume=True)
    for a, b in zip(leaves(whole), leaves(run), strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.metrics()["step"][::3].tolist() == [16, 20, 40, 60]
