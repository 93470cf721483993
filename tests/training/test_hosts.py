"""Several processes that train one run: the numbers of a single one, one that writes, and an end when one is lost."""

import json
import os
import shutil
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_streaming import DATA
from tiny_algorithm import TinyBC, leaves, synthetic

import reverie
from reverie.data.shard_writer import ShardWriter
from reverie.data.streaming import Streamed
from reverie.errors import RunError
from reverie.training import hosts
from reverie.training.placing import seeds_axis

PROGRAM = """
import os, sys, threading
from functools import partial
from reverie.training import hosts
hosts.join()
import jax, numpy as np, reverie
from reverie import cli
from reverie.data import shards
from reverie.data.streaming import Streamed
from reverie.training import segments
from test_streaming import DATA
from tiny_algorithm import TinyBC, leaves, synthetic

out, fate = sys.argv[1:]

class Seen:
    done = False
    def on_segment(self, run):
        print("called", run.step, flush=True)
        return {"process": float(jax.process_index())}

def on_device(*arguments, on_device=segments.on_device):
    advance = on_device(*arguments)
    def until(states, keys, done, *more):
        if done == 20 and not hosts.first():
            os._exit(9)
        return advance(states, keys, done, *more)
    return until

def train(arguments):
    if fate == "lost":
        segments.on_device = on_device
    run = reverie.fit(
        TinyBC(), synthetic(), steps=40, segment=20, seeds=2, out=out, checkpoint_every=20, resume=fate != "refused",
        host_data=fate == "host", callbacks=(Seen(),),
    )
    assert all(leaf.is_fully_addressable for leaf in jax.tree.leaves(run.states))
    print("trained", run.step, jax.device_count(), len(run.table.rows), flush=True)
    if fate == "host":
        shard()

def shard(read=shards._read):
    files = []
    def seen(header, number):
        if threading.current_thread().name.startswith("reverie-blocks"):
            files.append(number)
        return read(header, number)
    shards._read = seen
    streamed = Streamed(out + "-set", block_rows=200)
    for name, data in (("stream", streamed), ("memory", DATA)):
        more = {"block_updates": 10} if data is streamed else {}
        run = reverie.fit(TinyBC(), data, steps=20, segment=10, seeds=2, shard_data=True, **more, progress=False)
        np.savez(f"{out}-{name}-{jax.process_index()}.npz", *leaves(run))
    print(files)

cli._run = train
sys.exit(cli.main([]))
"""
# Adam may turn a rounding error in a gradient near 0 into a small part of the rate, 3e-3.
alike = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-5)
fit = partial(reverie.fit, TinyBC(), synthetic(), steps=40, segment=20, seeds=2, progress=False)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def processes(out: Path, fate: str, devices: int = 1) -> list[tuple[int, list[str], list[str]]]:
    """Two processes that train the run together, at their end: exit status, and the lines of output and of errors."""
    shared = os.environ | {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "2",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", PROGRAM, str(out), fate]
    begun = [subprocess.Popen(command, env=shared | {"JAX_PROCESS_ID": str(n)}, **pipes) for n in range(2)]
    ends = [(each.communicate(timeout=150), each.returncode) for each in begun]
    # Gloo's threads write into each other's lines, and may leave one that is empty.
    strange = ("Gloo]", "peer ranks")
    lines = [
        [[line for line in text.splitlines() if line and not any(map(line.__contains__, strange))] for text in said]
        for said, _ in ends
    ]
    return [(status, *both) for (_, status), both in zip(ends, lines, strict=True)]


@pytest.fixture(scope="module")
def alone():
    return fit()


@pytest.fixture(scope="module")
def lost(tmp_path_factory):
    """A run whose second process vanished after 20 of 40 updates, and how the two ended."""
    out = tmp_path_factory.mktemp("lost") / "run"
    return out, processes(out, "lost")


def test_a_lost_process_ends_the_others_in_one_sentence(lost):
    out, ((status, _, said), (lost_status, *_)) = lost
    assert (status, lost_status) == (2, 9)
    assert said[-1].startswith("reverie: A process that trained with this one is lost (")
    assert f"The last good checkpoint is that of update 20 in {str(out)!r}." in said[-1]
    assert not any("Traceback" in line for line in said)


def test_a_run_that_lost_a_process_goes_on_alone(lost, alone, tmp_path):
    path = shutil.copytree(lost[0], tmp_path / "run")
    with pytest.raises(RunError, match=r"devices=4096 was asked for, and JAX sees 1 \(cpu\); give devices="):
        reverie.resume(path, synthetic(), devices=4096, progress=False)
    run = fit(out=path, resume=True)
    for a, b in zip(leaves(alone), leaves(run), strict=True):
        alike(a, b)


@pytest.fixture(scope="module")
def both(lost):
    """What two processes say that go on with it, and then train on data that are divided among their devices."""
    out, _ = lost
    with ShardWriter(f"{out}-set", shard_rows=20) as writer:
        writer.append(DATA)
    (status, said, errors), (other_status, other_said, other_errors) = processes(out, "host", devices=2)
    assert (status, other_status) == (0, 0), (errors, other_errors)
    return (said[:-1], said[-1]), (other_said[:-1], other_said[-1]), other_errors


def test_two_processes_go_on_with_it_and_give_the_numbers_of_one(lost, alone, both):
    out, _ = lost
    (said, _), (other_said, _), other_errors = both
    # The first alone calls the callbacks and has all rows; the other has its own in memory.
    assert (said, other_said) == (["called 40", "trained 40 4 4"], ["trained 40 4 2"])
    assert other_errors == []
    run = reverie.load(out)
    assert set(run.metrics()["process"]) == {0.0}
    for a, b in zip(leaves(alone), leaves(run), strict=True):
        alike(a, b)
    for name in ("loss", "norm"):
        alike(run.metrics()[name], alone.metrics()[name])


@pytest.mark.parametrize("kind", ["stream", "memory"])
def test_data_sharded_over_processes_give_the_numbers_of_one(lost, both, kind):
    out, _ = lost
    data = {"data": DATA} if kind == "memory" else {"data": Streamed(f"{out}-set", 200), "block_updates": 10}
    run = reverie.fit(TinyBC(), **data, steps=20, segment=10, seeds=2, progress=False)
    for number in range(2):
        for a, b in zip(leaves(run), np.load(f"{out}-{kind}-{number}.npz").values(), strict=True):
            alike(a, b)


def test_of_a_stream_each_process_reads_its_own_files(lost, both):
    streamed = Streamed(f"{lost[0]}-set", block_rows=200)
    blocks = [np.array_split(streamed.drawn(number), 4) for number in range(2)]  # 10 updates each, 4 devices
    for number, (_, files) in enumerate(both[:2]):
        own = [part for block in blocks for part in block[2 * number : 2 * number + 2]]
        assert json.loads(files) == np.concatenate(own).tolist()


def test_what_the_first_cannot_do_ends_the_other_too(lost):
    (status, _, said), (other_status, _, other_said) = processes(lost[0], "refused")
    assert (status, other_status) == (2, 2)
    assert "already holds a run" in said[-1]
    assert "already holds a run" in other_said[-1] or "Another process of this training cannot go on" in other_said[-1]


@pytest.mark.parametrize(
    ("devices", "seeds", "local", "over"),
    [(1, 3, 1, 1), (4, 4, 4, 4), (4, 2, 4, 2), (8, 4, 4, 4), (8, 4, 2, 4), (6, 2, 2, 1), (6, 3, 2, 3), (4, 3, 2, 1)],
)
def test_seeds_are_divided_as_far_as_a_processs_devices_stay_together(devices, seeds, local, over):
    assert seeds_axis(devices, seeds, local) == over


def test_what_launchers_tell():
    own = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    told = {"coordinator_address": "a:1", "num_processes": 4, "process_id": 3}
    assert hosts.told_by(own) == told
    assert hosts.told_by({"MASTER_ADDR": "a", "MASTER_PORT": "1", "WORLD_SIZE": "4", "RANK": "3"}) == told
    mpi = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}
    assert hosts.told_by(mpi | {"JAX_COORDINATOR_ADDRESS": "a:1"}) == told
    indexed = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "3"}
    assert hosts.told_by(indexed) == told
    assert hosts.told_by(mpi) == {}, "without an address JAX looks for itself"
    with pytest.raises(RunError, match="RANK='three' must be a whole number"):
        hosts.told_by({"MASTER_ADDR": "a", "WORLD_SIZE": "4", "RANK": "three"})


def test_a_process_that_was_started_alone_says_so():
    with pytest.raises(RunError, match="was told to train together with others, and cannot"):
        hosts.join()
