"""A server of a policy: several clients' steps in one compiled act, over websockets, in messages of msgpack.

A connection is a session, an environment of its own. Its carry stays here, a row of a pool on the device. Requests are
maps with "do": "about", "reset" (with "seed" and "wishes") or "act" (with "observation" and "feedback"); an answer is a
map, with "error" and a sentence where a request could not be met. Arrays are {"dtype", "shape", "data"}.
"""

from __future__ import annotations

import asyncio
import hmac
import math
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reverie.errors import ReverieError
from reverie.training.inputs import blank_input, signals_of
from reverie.training.run import Policy

LOCAL = ("127.0.0.1", "::1", "localhost")
DTYPES = ("float32", "float64", "uint8", "int32", "int64", "bool")
ROOM = 2**16
"""Bytes of a message beside its observation: wishes, names."""


@dataclass(eq=False)
class Session:
    """One client's."""

    place: int
    """Its row of the pool."""
    begun: bool = False


@dataclass
class Waiting:
    """A request of a session for what changes its carry."""

    session: Session
    work: Any
    """A carry to begin with, or the inputs of a step."""
    answer: asyncio.Future = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches:
    """Steps of several sessions at once. The pool has a row a session, and one more for what fills a batch up.

    A batch has 1, 2, 4, ... rows, up to `most`; all are compiled before the first request. Its rows are computed one
    after another in one program, so that each gives the bits of `Policy.act` and only a session that is due plans;
    with `vectorised` they are computed together, as a GPU likes it.
    """

    def __init__(self, policy: Policy, sessions: int, most: int, vectorised: bool = False):
        self.policy, self.sessions = policy, sessions
        self.sizes = [2**power for power in range(math.ceil(math.log2(max(most, 1))) + 1)]
        self._act = jax.jit(partial(_act, policy.step, vectorised))
        self._put = jax.jit(_put)
        first = policy.reset(**_any_wishes(policy))
        self._pool = jax.tree.map(lambda leaf: jnp.stack([leaf] * (sessions + 1)), first)

    def compile(self) -> None:
        """All sizes, on rows that no session has."""
        seen, brought = blank_input(self.policy.algorithm, self.policy.spec, 1), signals_of(self.policy.algorithm)
        nothing = (jax.tree.map(np.asarray, seen), {name: np.zeros(1, np.float32) for name in brought})
        for size in self.sizes:
            self.act([self.sessions] * size, [nothing] * size)
        self.begin(self.sessions, jax.tree.map(lambda leaf: leaf[self.sessions], self._pool))

    def begin(self, place: int, carry: Any) -> None:
        self._pool = self._put(self._pool, place, carry)

    def act(self, places: list[int], inputs: list[Any]) -> np.ndarray:
        """The actions `[len(places), act]` of sessions at these rows."""
        size = next(each for each in self.sizes if each >= len(places))
        spare = size - len(places)
        rows = np.array(places + [self.sessions] * spare, np.int32)
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *inputs, *[inputs[0]] * spare)
        actions, self._pool = self._act(self.policy.arrays, self._pool, rows, *stacked)
        return np.asarray(actions)[: len(places), 0]


def _act(step: Callable, vectorised: bool, arrays: Any, pool: Any, rows: Any, seen: Any, brought: Any) -> Any:
    carries = jax.tree.map(lambda leaf: leaf[rows], pool)
    over = (lambda f, xs: jax.vmap(f)(xs)) if vectorised else jax.lax.map
    actions, carries = over(lambda each: step(arrays, *each), (carries, seen, brought))
    return actions, jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), pool, carries)


def _put(pool: Any, place: Any, carry: Any) -> Any:
    return jax.tree.map(lambda leaf, new: leaf.at[place].set(new), pool, carry)


def _any_wishes(policy: Policy) -> dict[str, Any]:
    """Something for each wish that must be told, so that there is a carry to see the shapes of."""
    declared = policy.wishes
    return {
        name: "" if wish.encode else np.zeros(wish.shape, wish.dtype)
        for name, wish in declared.items()
        if wish.default is None and name not in policy.asked
    }


class Server:
    """Answers requests until `close`. `serve` runs one; tests begin and end it within their own loop.

    Args:
        policy: `run.policy()`.
        host, port: where it listens; 0 takes a free port. Another host than 127.0.0.1 needs a token.
        token: what clients must show.
        sessions: clients at a time; more are refused with a sentence.
        batch: sessions in one act, at most.
        queue: requests that wait, at most; more are answered with an error.
        vectorised: see `Batches`.

    Raises ReverieError where a host that others reach has no token.
    """

    def __init__(
        self, policy: Policy, host: str = "127.0.0.1", port: int = 0, token: str = "", sessions: int = 64,
        batch: int = 32, queue: int = 256, vectorised: bool = False,
    ):  # fmt: skip
        if host not in LOCAL and not token:
            raise ReverieError(f"host {host!r} is open to others and there is no token; give --token, or 127.0.0.1.")
        self.policy, self.host, self.port, self.token, self.queue = policy, host, port, token, queue
        self.batches = Batches(policy, sessions, min(batch, sessions), vectorised)
        self._free = list(reversed(range(sessions)))
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue()
        self._worker = ThreadPoolExecutor(1, "reverie-act")
        self.largest = ROOM + 2 * sum(
            x.size * 8 for x in jax.tree.leaves(blank_input(policy.algorithm, policy.spec, 1))
        )

    async def start(self) -> None:
        """Compile and listen."""
        try:
            import msgpack  # noqa: F401
            from websockets.asyncio.server import serve
        except ImportError as error:
            raise ReverieError(f"Serving needs a package ({error}); pip install 'reverie[serve]'.") from None
        await asyncio.get_running_loop().run_in_executor(self._worker, self.batches.compile)
        # A page in a browser sends an origin, and must not reach what listens on its user's machine.
        self._server = await serve(
            self._client, self.host, self.port, process_request=self._admit, origins=[None], compression=None,
            max_size=self.largest, max_queue=4,
        )  # fmt: skip
        self.port = self._server.sockets[0].getsockname()[1]
        self._batching = asyncio.create_task(self._batch())

    async def close(self) -> None:
        """Say goodbye to all clients, and wait for the act that is being computed."""
        self._server.close()
        await self._server.wait_closed()
        self._batching.cancel()
        self._worker.shutdown()

    def _admit(self, connection: Any, request: Any) -> Any:
        told = request.headers.get("Authorization", "").encode()
        if self.token and not hmac.compare_digest(told, f"Bearer {self.token}".encode()):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "The token is missing or is not this server's.\n")
        if not self._free:
            return connection.respond(
                HTTPStatus.SERVICE_UNAVAILABLE, f"All {self.batches.sessions} sessions are taken; close one.\n"
            )
        return None

    async def _client(self, socket: Any) -> None:
        if not self._free:  # taken since it was admitted
            return await socket.close(1013, "All sessions are taken.")
        session = Session(self._free.pop())
        try:
            async for message in socket:
                await socket.send(packed(await self._answer(session, message)))
        finally:
            self._free.append(session.place)
        return None

    async def _answer(self, session: Session, message: Any) -> dict[str, Any]:
        try:
            request = unpacked(message)
            do = request.get("do")
            if do == "reset":
                return await self._reset(session, request)
            if do == "act":
                return await self._step(session, request)
            if do == "about":
                return self._about()
            raise ReverieError(f"'do' is {do!r}; ask to about, reset or act.")
        except ReverieError as error:
            return {"error": str(error)}
        except Exception as error:  # of one client's request: others go on
            return {"error": f"The request could not be met ({type(error).__name__}: {error})."}

    async def _reset(self, session: Session, request: Mapping[str, Any]) -> dict[str, Any]:
        seed, wishes = request.get("seed", 0), request.get("wishes", {})
        if not isinstance(seed, int) or not isinstance(wishes, dict):
            raise ReverieError("A reset has a whole number 'seed' and a map of 'wishes'.")
        loop = asyncio.get_running_loop()
        carry = await loop.run_in_executor(self._worker, lambda: self.policy.reset(seed, **wishes))
        await self._wait(session, carry)
        session.begun = True
        return {"ok": True}

    async def _step(self, session: Session, request: Mapping[str, Any]) -> dict[str, Any]:
        if not session.begun:
            raise ReverieError("An episode begins with reset; ask for that before the first act.")
        feedback = request.get("feedback") or {}
        if "observation" not in request or not isinstance(feedback, dict):
            raise ReverieError("An act has an 'observation', and 'feedback' is a map of numbers.")
        action = await self._wait(session, self.policy.inputs(request["observation"], feedback), step=True)
        return {"action": action}

    def _about(self) -> dict[str, Any]:
        spec = self.policy.spec
        return {
            "method": self.policy.algorithm.name,
            "observation": str(spec.observation_space),
            "action_low": np.asarray(spec.action_low).tolist(),
            "action_high": np.asarray(spec.action_high).tolist(),
            "feedback": list(signals_of(self.policy.algorithm)),
            "wishes": {name: f"{wish.help} ({wish.unit})" for name, wish in self.policy.wishes.items()},
        }

    async def _wait(self, session: Session, work: Any, step: bool = False) -> Any:
        if self._waiting.qsize() >= self.queue:
            raise ReverieError(f"{self.queue} requests wait already; ask again later.")
        waiting = Waiting(session, (step, work))
        self._waiting.put_nowait(waiting)
        return await waiting.answer

    async def _batch(self) -> None:
        """In the order in which they came: carries that begin, and steps of different sessions together."""
        loop = asyncio.get_running_loop()
        while True:
            chosen = [await self._waiting.get()]
            while not self._waiting.empty() and len(chosen) < self.batches.sizes[-1]:
                chosen.append(self._waiting.get_nowait())
            # Of a client that is gone nobody waits for the answer.
            chosen = [each for each in chosen if not each.answer.done()]
            try:
                answers = await loop.run_in_executor(self._worker, self._compute, [each.work for each in chosen],
                                                     [each.session.place for each in chosen])  # fmt: skip
            except Exception as error:  # the policy's: those who asked are told, and the server goes on
                answers = [ReverieError(f"The policy failed ({type(error).__name__}: {error}).")] * len(chosen)
            for each, answer in zip(chosen, answers, strict=True):
                if each.answer.done():
                    continue
                if isinstance(answer, Exception):
                    each.answer.set_exception(answer)
                else:
                    each.answer.set_result(answer)

    def _compute(self, works: list[Any], places: list[int]) -> list[Any]:
        """A session waits for one answer at a time, so that all places differ."""
        for (step, work), place in zip(works, places, strict=True):
            if not step:
                self.batches.begin(place, work)
        steps = [number for number, (step, _) in enumerate(works) if step]
        answers: list[Any] = [True] * len(works)
        if steps:
            actions = self.batches.act([places[each] for each in steps], [works[each][1] for each in steps])
            for number, action in zip(steps, actions, strict=True):
                answers[number] = action
        return answers


def packed(answer: Any) -> bytes:
    import msgpack

    return msgpack.packb(answer, default=_array_as_map)


def unpacked(message: Any) -> dict[str, Any]:
    """A request, its arrays as arrays. Raises ReverieError for what is none."""
    import msgpack

    if not isinstance(message, bytes):
        raise ReverieError("A request is a binary message of msgpack, and this is text.")
    try:
        request = msgpack.unpackb(message, object_hook=_map_as_array)
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise ReverieError(f"The message is no map of msgpack ({error}).") from None
    if not isinstance(request, dict):
        raise ReverieError(f"The message is {type(request).__name__} in msgpack, and must be a map.")
    return request


def _array_as_map(x: Any) -> dict[str, Any]:
    x = np.asarray(x)
    return {"dtype": x.dtype.name, "shape": list(x.shape), "data": x.tobytes()}


def _map_as_array(found: dict[str, Any]) -> Any:
    if found.keys() != {"dtype", "shape", "data"}:
        return found
    if found["dtype"] not in DTYPES:
        raise ValueError(f"an array's dtype is {found['dtype']!r}, and must be one of {', '.join(DTYPES)}")
    return np.frombuffer(found["data"], found["dtype"]).reshape(found["shape"])


def serve(policy: Policy, say: Callable[[str], None] = print, **settings: Any) -> None:
    """Serve until SIGTERM or Ctrl-C. Settings as of `Server`."""
    asyncio.run(_serve(policy, say, settings))


async def _serve(policy: Policy, say: Callable[[str], None], settings: dict[str, Any]) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopped.set)
    before, server = time.perf_counter(), Server(policy, **settings)
    await server.start()
    took, most = time.perf_counter() - before, server.batches.sizes[-1]
    say(f"{policy.algorithm.name} on ws://{server.host}:{server.port}, batches up to {most} compiled in {took:.1f} s")
    await stopped.wait()
    await server.close()
    say("closed")
