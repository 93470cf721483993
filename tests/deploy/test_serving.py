"""A served policy gives each client the run's own actions, and whatever one client does harms no other."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.test_fuzz import EXAMPLES, damaged, damages
from tests.test_methods import tiny
from tests.training.test_release import STATES, run_of
from tiny_algorithm import TinyBC, synthetic

from reverie.deploy.serving import Server, packed
from reverie.errors import ReverieError

msgpack = pytest.importorskip("msgpack", reason="serving needs pip install 'reverie[serve]'")
websockets = pytest.importorskip("websockets", reason="serving needs pip install 'reverie[serve]'")
from reverie.deploy.client import RemotePolicy  # noqa: E402

SEEN = STATES[0].astype(np.float32)


class Serving:
    """A server in a thread, as a context; its address."""

    def __init__(self, run, **settings):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.server = Server(run.policy(), **settings)

    def do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def __enter__(self):
        self.thread.start()
        self.do(self.server.start())
        return self

    def __exit__(self, *raised):
        self.do(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    @property
    def url(self):
        return f"ws://{self.server.host}:{self.server.port}"


@pytest.fixture(scope="module")
def run():
    """Of chunks, with a key."""
    return run_of(tiny("ibc"))


@pytest.fixture(scope="module")
def serving(run):
    with Serving(run, sessions=3, batch=3, token="secret") as each:
        yield each


def expected(run, seed, steps):
    policy, actions = run.policy(), []
    carry = policy.reset(seed)
    for number in steps:
        action, carry = policy.act(SEEN[number], carry)
        actions.append(action)
    return np.stack(actions)


def test_actions_are_the_run_s_bit_for_bit(run, serving):
    with RemotePolicy(serving.url, "secret") as policy:
        for seed in (0, 7):
            policy.reset(seed=seed)
            found = [policy.act(SEEN[number]) for number in range(6)]
            np.testing.assert_array_equal(found, expected(run, seed, range(6)))
        assert policy.about()["method"] == "ibc"


def test_clients_that_come_between_each_other_have_an_episode_each(run, serving):
    """At once, so that their steps share batches of all sizes; one begins later, and one starts anew."""
    found = {}

    def drive(seed, first):
        with RemotePolicy(serving.url, "secret") as policy:
            policy.reset(seed=99)
            for number in range(first):
                policy.act(SEEN[number])
            policy.reset(seed=seed)
            found[seed] = np.stack([policy.act(SEEN[number]) for number in range(first, first + 12)])

    threads = [threading.Thread(target=drive, args=(seed, first)) for seed, first in ((1, 0), (2, 3), (3, 5))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for seed, first in ((1, 0), (2, 3), (3, 5)):
        np.testing.assert_array_equal(found[seed], expected(run, seed, range(first, first + 12)))
    assert not np.array_equal(found[1], found[2])


def test_a_wrong_token_is_refused_and_a_session_too_many(serving):
    for token in ("", "secre", "secrets"):
        with pytest.raises(RuntimeError, match="The token is missing or is not this server's"):
            RemotePolicy(serving.url, token)
    clients = [RemotePolicy(serving.url, "secret") for _ in range(3)]
    with pytest.raises(RuntimeError, match="All 3 sessions are taken; close one"):
        RemotePolicy(serving.url, "secret")
    clients[0]._socket.socket.shutdown(socket.SHUT_RDWR)  # vanishes without a word
    for _ in range(100):
        try:
            clients.append(RemotePolicy(serving.url, "secret"))
            break
        except RuntimeError:
            threading.Event().wait(0.05)
    assert len(clients) == 4
    clients[-1].reset()
    assert clients[-1].act(SEEN[0]).shape == (2,)
    for each in clients[1:]:
        each.close()


BAD = {
    "no msgpack": (b"\xc1", "The message is no map of msgpack"),
    "text": ("hello", "A request is a binary message of msgpack, and this is text"),
    "no map": (msgpack.packb([1]), "The message is list in msgpack, and must be a map"),
    "unknown": (msgpack.packb({"do": "dance"}), "'do' is 'dance'; ask to about, reset or act"),
    "no observation": (msgpack.packb({"do": "act"}), "An act has an 'observation'"),
    "another size": (packed({"do": "act", "observation": np.zeros(3)}), "The observation has shape"),
    "no number": (msgpack.packb({"do": "act", "observation": ["a", 0, 0, 0]}), "observation"),
    "an object": (
        packed({"do": "act", "observation": np.zeros(4, "datetime64[s]")}),
        "an array's dtype is 'datetime64",
    ),
    "cut": (
        packed({"do": "act", "observation": {"dtype": "float32", "shape": [4], "data": b"ab"}}),
        "no map of msgpack",
    ),
    "a feedback": (packed({"do": "act", "observation": SEEN[0], "feedback": {"x": 1}}), "'x' is no feedback that ibc"),
    "a wish": (msgpack.packb({"do": "reset", "wishes": {"speed": 1}}), "ibc cannot be asked for 'speed'"),
    "a seed": (msgpack.packb({"do": "reset", "seed": "one"}), "A reset has a whole number 'seed'"),
}


def test_what_cannot_be_understood_gets_a_sentence_and_harms_no_other(run, serving):
    with RemotePolicy(serving.url, "secret") as good, RemotePolicy(serving.url, "secret") as bad:
        good.reset(seed=4)
        with pytest.raises(RuntimeError, match="An episode begins with reset"):
            bad.act(SEEN[0])
        bad.reset(seed=4)
        found = []
        for number, (name, (message, sentence)) in enumerate(BAD.items()):
            bad._socket.send(message)
            answer = msgpack.unpackb(bad._socket.recv())
            assert sentence in answer["error"], (name, answer)
            found.append(good.act(SEEN[number]))
        np.testing.assert_array_equal(found, expected(run, 4, range(len(BAD))))
        # And its own episode goes on where it was.
        np.testing.assert_array_equal([bad.act(SEEN[0])], expected(run, 4, [0]))


GOOD = (
    packed({"do": "reset", "seed": 3, "wishes": {}}),
    packed({"do": "act", "observation": SEEN[0], "feedback": {"reward": 0.5}}),
    packed({"do": "about"}),
)


def test_damaged_messages_are_answered_and_harm_no_other(run, serving):
    with RemotePolicy(serving.url, "secret") as good, RemotePolicy(serving.url, "secret") as bad:
        good.reset(seed=4)

        @given(damage=damages(), message=st.sampled_from(GOOD))
        @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
        def answered(damage, message):
            bad._socket.send(damaged(message, damage))
            answer = msgpack.unpackb(bad._socket.recv(timeout=10))
            assert answer.keys() <= {"error"} or {"ok", "action", "method"} & answer.keys()

        answered()
        np.testing.assert_array_equal([good.act(SEEN[0])], expected(run, 4, [0]))


def test_a_message_that_is_too_large_ends_its_client_alone(run, serving):
    with RemotePolicy(serving.url, "secret") as good:
        good.reset(seed=4)
        large = RemotePolicy(serving.url, "secret")
        with pytest.raises(RuntimeError, match=r"The server has closed the connection \(.*1009"):
            large.act(np.zeros(serving.server.largest))
        np.testing.assert_array_equal([good.act(SEEN[0])], expected(run, 4, [0]))


def test_what_fails_in_the_policy_and_a_full_queue_are_said():
    run = run_of(TinyBC(), data=synthetic())
    with Serving(run, sessions=2) as serving, RemotePolicy(serving.url) as policy:
        policy.reset()
        act, serving.server.batches.act = serving.server.batches.act, lambda *_: 1 / 0
        with pytest.raises(RuntimeError, match=r"The policy failed \(ZeroDivisionError"):
            policy.act(np.zeros(3))
        serving.server.batches.act = act
        assert np.isfinite(policy.act(np.zeros(3))).all()
        serving.server.queue = 0
        with pytest.raises(RuntimeError, match="0 requests wait already; ask again later"):
            policy.act(np.zeros(3))


def test_others_are_let_in_by_a_token_only():
    with pytest.raises(ReverieError, match=r"host '0\.0\.0\.0' is open to others and there is no token; give --token"):
        Server(run_of(TinyBC(), data=synthetic()).policy(), host="0.0.0.0")


@pytest.mark.slow
def test_the_command_line_serves_until_it_is_told_to_end(tmp_path):
    run_of(tiny("bc")).export(tmp_path / "run")
    command = [sys.executable, "-u", "-m", "reverie.cli", "serve", str(tmp_path / "run"), "--port", "0"]
    environment = os.environ | {"REVERIE_TOKEN": "t", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        said = process.stdout.readline()
        assert "on ws://127.0.0.1:" in said, said
        with RemotePolicy(said.split(" on ")[1].split(",")[0], "t") as policy:
            policy.reset()
            assert policy.act(SEEN[0]).shape == (2,)
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            assert process.stdout.read() == "closed\n"
    finally:
        process.kill()
