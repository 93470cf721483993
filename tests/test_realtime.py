"""The loop at a fixed rate: its actions are those of acting with the same delay, and what is late is said."""

import time
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.planning.test_chunks import SPEC, Clock, acted

from reverie.baselines import BC
from reverie.errors import ReverieError
from reverie.realtime import RealTimeLoop
from reverie.training.run import Policy


class Slow:
    """Chooses a chunk so many ticks after it was asked for."""

    def __init__(self, ticks):
        self.ticks, self.waiting = ticks, []

    def submit(self, function, carry, key):
        future = Future()
        self.waiting.append([0 if int(carry.step[0]) == 0 else self.ticks, future, lambda: function(carry, key)])
        self.tick(0)
        return future

    def tick(self, count=1):
        for each in self.waiting:
            each[0] -= count
        for _, future, call in [each for each in self.waiting if each[0] <= 0]:
            future.set_result(call())
        self.waiting = [each for each in self.waiting if each[0] > 0]

    def shutdown(self, **options):
        pass


def served(algorithm, ticks, steps):
    """The actions `[steps, A]` where choosing takes so many ticks; and the loop."""
    now = iter(range(1000))
    loop = RealTimeLoop(Policy(algorithm, SPEC, None), lambda: np.float32([next(now) / 100]), print, rate=10)
    loop._chooser = slow = Slow(ticks)
    actions = []
    for _ in range(steps):
        actions.append(loop.tick())
        slow.tick()
    return np.stack(actions) * 100, loop


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("chunking", ["replace", "ensemble"])
def test_what_is_served_is_what_acting_with_that_delay_does(delay, chunking):
    algorithm = Clock(inference_delay=delay, chunking=chunking)
    actions, loop = served(algorithm, max(delay, 1), 20)
    expected = acted(Clock(inference_delay=max(delay, 1), chunking=chunking), 20)[:, 0]
    np.testing.assert_allclose(actions, expected, atol=1e-3)
    assert loop.report().overdue == (6 if delay == 0 else 0)  # a chunk that is chosen beside is there a tick later
    assert loop.report().starved == 0


def test_where_a_chunk_takes_too_long_the_old_one_goes_on_and_then_its_last_action_is_repeated():
    actions, loop = served(Clock(inference_delay=1), 8, 14)
    # Of the first chunk, from row 1 on, 7 actions; it is asked for the next at step 3, which is there at step 11.
    np.testing.assert_allclose(actions[:, 1], [*[0] * 12, 3, 3], atol=1e-3)  # a first row is frozen
    np.testing.assert_allclose(actions[:7, 0], np.arange(7), atol=1e-3)
    np.testing.assert_allclose(actions[7:11, 0], 6, atol=1e-3)
    np.testing.assert_allclose(actions[11:, 0], [3, 4, 5], atol=1e-3)  # all its rows are past: from its first one
    assert loop.report().overdue == 1
    assert loop.report().starved == 4


def test_the_thread_keeps_the_rate_counts_and_stops():
    sent = []
    start = time.perf_counter()
    with RealTimeLoop(
        Policy(Clock(), SPEC, None), lambda: np.zeros(1, np.float32), lambda action: sent.append(action), rate=100
    ) as loop:
        while len(sent) < 20:
            time.sleep(0.005)
    assert time.perf_counter() - start >= 0.19
    report = loop.report()
    assert report.ticks == len(sent)
    assert len(report.inference) >= 20 // 3
    assert str(report).startswith(f"{report.ticks} actions, {report.late} late; ")


def test_what_the_robot_raises_stops_the_loop_and_is_raised_again():
    def broken():
        raise OSError("the camera is gone")

    loop = RealTimeLoop(Policy(Clock(), SPEC, None), broken, print, rate=50).start()
    loop._thread.join()
    with pytest.raises(OSError, match="the camera is gone"):
        loop.stop()


def test_a_policy_of_single_steps_and_a_rate_of_nothing_are_refused():
    with pytest.raises(ReverieError, match="bc is no policy of chunks"):
        RealTimeLoop(Policy(BC(), SPEC, None), print, print, rate=10)
    with pytest.raises(ReverieError, match="rate = 0, but it must be a positive number"):
        RealTimeLoop(Policy(Clock(), SPEC, None), print, print, rate=0)


def test_a_chunk_s_random_choice_is_another_each_time():
    loop = RealTimeLoop(Policy(Clock(), SPEC, None), lambda: np.zeros(1, np.float32), print, rate=10)
    before = loop._key
    loop.tick()
    assert not jnp.array_equal(jax.random.key_data(before), jax.random.key_data(loop._key))
