"""A control loop at a fixed rate: actions are served while the next chunk is being chosen.

The policy is one of chunks (`reverie.planning.ChunkActor`), trained or loaded; with `chunking="real-time"` a chunk
goes on from the one that is executed meanwhile (Black et al. 2025).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from reverie.errors import ReverieError
from reverie.planning.chunks import ChunkActor, ChunkCarry
from reverie.training.inputs import as_input
from reverie.training.run import Policy


class Report(NamedTuple):
    """What happened so far."""

    ticks: int
    """Actions that were sent."""
    late: int
    """Actions that were sent after the next one was due: reading, sending or the machine are too slow for the rate."""
    overdue: int
    """Chunks that took longer than the policy's `inference_delay`; their first actions had no part in the choice."""
    starved: int
    """Ticks at which no action of any chunk was left, and the last one was sent again."""
    inference: tuple[float, ...]
    """Seconds that each chunk took."""

    def __str__(self) -> str:
        took = np.array(self.inference or (0.0,)) * 1000
        return (
            f"{self.ticks} actions, {self.late} late; {len(self.inference)} chunks in {np.median(took):.0f} ms "
            f"(largest {took.max():.0f}), {self.overdue} overdue; {self.starved} ticks without an action"
        )


class RealTimeLoop:
    """Reads, acts and sends at a fixed rate in a thread of its own; chunks are chosen in another.

    A chunk is begun once `action_horizon` actions of the one before are executed, and is taken over as soon as it is
    there, at the row of that moment. The first is waited for. As a context: it runs inside and is stopped at the end.

    Args:
        policy: `run.policy()` of a method of chunks.
        observe: gives the newest observation, in the data's units.
        send: takes an action, in the environment's units.
        rate: actions a second.
        seed: of the policy's random choices.

    Raises ReverieError for a policy of single steps, and for a rate that is not positive. What `observe` and `send`
    raise stops the loop, and `stop` raises it again.
    """

    def __init__(
        self, policy: Policy, observe: Callable[[], Any], send: Callable[[np.ndarray], Any], rate: float, seed: int = 0
    ):
        if not isinstance(policy.algorithm, ChunkActor):
            raise ReverieError(f"{policy.algorithm.name} is no policy of chunks; there is nothing to serve ahead")
        if not rate > 0:
            raise ReverieError(f"rate = {rate!r}, but it must be a positive number of actions a second")
        self.policy, self.observe, self.send, self.period = policy, observe, send, 1 / rate
        self._see, self._choose, self._action = _compiled(policy)
        self._carry: ChunkCarry
        self._key, self._carry = policy.reset(seed)
        self._last = np.zeros(policy.spec.action.shape, np.float32)
        self._ticks = self._late = self._overdue = self._starved = 0
        self._inference: list[float] = []
        self._pending: Future | None = None
        self._chooser = ThreadPoolExecutor(1, "reverie-chunks")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None
        self._warm_up()

    def report(self) -> Report:
        return Report(self._ticks, self._late, self._overdue, self._starved, tuple(self._inference))

    def start(self) -> RealTimeLoop:
        """Begin, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="reverie-control", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> Report:
        """End after the action that is being sent. Raises what made the loop stop by itself."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._chooser.shutdown(cancel_futures=True)
        if self._failed is not None:
            raise self._failed
        return self.report()

    def __enter__(self) -> RealTimeLoop:
        return self.start()

    def __exit__(self, *raised: Any) -> None:
        self.stop()

    def tick(self) -> np.ndarray:
        """The action of one step, for what is observed now; without waiting, but for the first chunk."""
        algorithm = self.policy.algorithm
        seen = as_input(algorithm, self.policy.spec, self.observe())
        self._carry = self._see(self._carry, jax.tree.map(lambda x: np.asarray(x)[None], seen))
        first = int(self._carry.step[0]) == 0
        self._take_over()
        if self._pending is None and (first or int(self._carry.step[0]) >= algorithm.action_horizon):
            self._key, key = jax.random.split(self._key)
            self._pending = self._chooser.submit(self._timed, self._carry, key)
            if first:
                self._pending.result()
                self._take_over()
        if algorithm.current + int(self._carry.step[0]) < algorithm.horizon:
            self._last = np.asarray(self._action(self._carry))[0]
        else:
            self._starved += 1
        self._carry = self._carry._replace(step=self._carry.step + 1)
        return self._last

    def _take_over(self) -> None:
        """The chunk that was being chosen, where it is there, from the row of now on; from its first one where all of
        it is past, as the robot has stood still meanwhile."""
        if self._pending is None or not self._pending.done():
            return
        new, begun = self._pending.result()
        self._pending = None
        passed = int(self._carry.step[0]) - begun
        self._overdue += passed > self.policy.algorithm.inference_delay
        if self.policy.algorithm.current + passed >= self.policy.algorithm.horizon:
            passed = 0
        self._carry = self._carry._replace(rows=new.rows, chosen=new.chosen, step=new.step + passed)

    def _timed(self, carry: ChunkCarry, key: jax.Array) -> tuple[ChunkCarry, int]:
        """The next chunk, and the step of the old one at which it was begun."""
        before = time.perf_counter()
        chosen = jax.block_until_ready(self._choose(carry, key))
        self._inference.append(time.perf_counter() - before)
        return chosen, int(carry.step[0])

    def _warm_up(self) -> None:
        """Compile, so that no deadline is missed for it."""
        blank = self.policy.spec.blank(1)
        carry = self._see(self._carry, blank)
        jax.block_until_ready((self._choose(carry, self._key), self._action(carry)))

    def _run(self) -> None:
        due = time.perf_counter()
        try:
            while not self._stopping.is_set():
                self.send(self.tick())
                self._ticks += 1
                due += self.period
                left = due - time.perf_counter()
                self._late += left < 0
                due = max(due, time.perf_counter())  # what is lost is not made up for by a rush
                self._stopping.wait(max(left, 0))
        except BaseException as error:
            self._failed = error


def _compiled(policy: Policy) -> tuple[Callable, Callable, Callable]:
    """Functions of the carry: with an observation in it, with the next chunk, and the action."""
    algorithm, spec, state = policy.algorithm, policy.spec, policy.state
    see = jax.jit(lambda spec, carry, observation: algorithm.seen(spec, observation, carry))
    choose = jax.jit(lambda state, spec, carry, key: algorithm.next_chunk(state, spec, carry, key))
    action = jax.jit(lambda spec, carry: algorithm.action(spec, carry))
    return (
        lambda carry, observation: see(spec, carry, observation),
        lambda carry, key: choose(state, spec, carry, key),
        lambda carry: action(spec, carry),
    )
