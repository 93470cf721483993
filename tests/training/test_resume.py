"""Runs that are killed, interrupted, shared or given other data."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_algorithm import TinyBC, leaves, synthetic

import reverie
from reverie.errors import RunError
from reverie.training import folder
from reverie.training.fitting import Store
from reverie.training.metrics import Table

OPTIMISED = True  # as the processes are that some tests start, to compare bits with
DATA = synthetic()
HERE = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
STEPS = 60
# The same program, and so one compilation, in all tests of this file.
fit = partial(reverie.fit, TinyBC(), segment=5, checkpoint_every=5, progress=False)
resume = partial(reverie.resume, progress=False)


def start(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": HERE},
        text=True,
        **options,
    )


def rows(run):
    """The table without its two columns of times."""
    columns = run.metrics()
    del columns["seconds"], columns["updates_per_second"]
    return {name: column.tolist() for name, column in columns.items()}


def assert_same(a, b):
    assert (a.step, rows(a)) == (b.step, rows(b))
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
    for run in (a, b):
        if run.path is not None:
            assert rows(reverie.load(run.path)) == rows(run)


@pytest.fixture(scope="module")
def whole():
    """The run that nothing disturbed."""
    return fit(DATA, steps=STEPS)


class Died(Exception):
    pass


def die_in(monkeypatch, cls, method, call, before=True):
    """Make the call-th call of cls.method the last thing that the run does, before or after its work."""
    calls, work = iter(range(1, 10_000)), getattr(cls, method)

    def dying(*args, **kwargs):
        last = next(calls) == call
        if last and before:
            raise Died
        work(*args, **kwargs)
        if last:
            raise Died

    monkeypatch.setattr(cls, method, dying)


def cut_off(path, monkeypatch, *where, **when):
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_in(patch, *where, **when)
        fit(DATA, steps=STEPS, out=path)


@pytest.mark.parametrize(
    "where, before, reached",
    [
        ((Store, "append", 1), True, None),  # nothing yet but the configuration
        ((Store, "save", 3), True, 10),  # rows without their checkpoint
        ((Store, "save", 3), False, 15),
        ((Store, "append", 12), False, 55),  # all but the last checkpoint
    ],
)
def test_resumed_after_dying_between_two_writes(tmp_path, monkeypatch, whole, where, before, reached):
    cut_off(tmp_path, monkeypatch, *where, before=before)
    if reached is None:
        with pytest.raises(RunError, match="no checkpoint yet"):
            reverie.load(tmp_path)
    else:
        assert reverie.load(tmp_path).step == reached
    assert_same(resume(tmp_path, DATA), whole)


@pytest.mark.parametrize("row", ["0", "0,15,0.1", "0,15,0.1,3.0,1.0,2"])
def test_half_a_row_is_dropped(tmp_path, monkeypatch, whole, row):
    cut_off(tmp_path, monkeypatch, Store, "append", 3)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(row)
    assert_same(resume(tmp_path, DATA), whole)


def test_died_while_the_rows_were_dropped(tmp_path, monkeypatch, whole):
    cut_off(tmp_path, monkeypatch, Store, "save", 3)
    before = (tmp_path / "metrics.csv").read_text()
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_in(patch, os, "replace", 2)  # the first one is that of config.json
        resume(tmp_path, DATA)
    assert (tmp_path / "metrics.csv").read_text() == before
    assert_same(resume(tmp_path, DATA), whole)


def test_died_before_there_was_a_configuration(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_in(patch, folder, "write_config", 1)
        fit(DATA, steps=STEPS, out=tmp_path)
    assert_same(fit(DATA, steps=STEPS, out=tmp_path), whole)


TRAIN = """
import sys, reverie
from tiny_algorithm import TinyBC, synthetic
out, steps = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
try:
    reverie.fit(TinyBC(), synthetic(), steps=steps, out=out, segment=5, checkpoint_every=5, resume=True, progress=False)
except KeyboardInterrupt:
    sys.exit(130)
"""


def wait_for_checkpoint(process, path, after=0):
    def steps():
        return [int(entry.name) for entry in path.glob("checkpoints/*") if entry.name.isdigit()]

    deadline = time.monotonic() + 120
    while max(steps(), default=-1) <= after:
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_at_a_random_moment(tmp_path):
    moment = random.SystemRandom().uniform(0, 1)  # in the report of a failure
    # With a checkpoint every five updates nearly all of the time goes into writing.
    process = start(TRAIN, tmp_path, 100_000)
    wait_for_checkpoint(process, tmp_path)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = reverie.load(tmp_path).step
    assert_same(resume(tmp_path, DATA, steps=max(STEPS, step)), fit(DATA, steps=max(STEPS, step)))


def test_a_checkpoint_half_written_is_no_checkpoint(tmp_path, monkeypatch, whole):
    cut_off(tmp_path, monkeypatch, Store, "save", 3, before=False)
    checkpoints = tmp_path / "checkpoints"
    # What orbax leaves behind when it dies: a folder under its temporary name.
    shutil.copytree(checkpoints / "15", checkpoints / "20.orbax-checkpoint-tmp")
    assert reverie.load(tmp_path).step == 15
    assert_same(resume(tmp_path, DATA), whole)
    assert sorted(entry.name for entry in checkpoints.iterdir()) == ["55", "60"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_runs_save_and_say_how_to_go_on(tmp_path, monkeypatch, capsys, whole, number):
    append, handler = Table.append, signal.getsignal(number)

    def interrupting(table, added):
        append(table, added)
        if added[0]["step"] == 35:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Table, "append", interrupting)
        fit(DATA, steps=STEPS, out=tmp_path, checkpoint_every=1000)
    *_, last = capsys.readouterr().err.splitlines()
    assert last == f"Stopped; update 35 of 60 is saved. Go on with: reverie train --resume {tmp_path}"
    assert signal.getsignal(number) == handler
    assert_same(resume(tmp_path, DATA), whole)


def test_a_second_interrupt_gives_up_the_segment(tmp_path, monkeypatch, capsys, whole):
    append = Table.append

    def interrupting(table, added):
        append(table, added)
        if added[0]["step"] == 35:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Table, "append", interrupting)
        fit(DATA, steps=STEPS, out=tmp_path)
    assert "update 30 of 60 is saved" in capsys.readouterr().err
    assert_same(resume(tmp_path, DATA), whole)


HOLD = """
import sys, time
from pathlib import Path
from reverie.training.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_in_use_is_refused_until_its_process_ends(tmp_path):
    process = start(HOLD, tmp_path, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match=r"Another process is training in .*; wait for it or give another"):
            fit(DATA, steps=5, out=tmp_path)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert fit(DATA, steps=5, out=tmp_path).step == 5


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short run whose data lie in a file, with the folder to be copied before it is changed."""
    path = tmp_path_factory.mktemp("finished")
    synthetic().save(f"d4rl:{path / 'data.hdf5'}")
    data = reverie.load_dataset(f"d4rl:{path / 'data.hdf5'}")
    return fit(data, steps=10, out=path / "run")


def test_resume_finds_the_data_and_trains_on(finished, tmp_path):
    path = shutil.copytree(finished.path, tmp_path / "run")
    assert_same(resume(path, steps=30), fit(DATA, steps=30))


def test_a_finished_run_stays_as_it_is(finished, tmp_path):
    path = shutil.copytree(finished.path, tmp_path / "run")
    assert_same(resume(path), finished)
    with pytest.raises(RunError, match="is at update 10, past steps=5"):
        resume(path, steps=5)


def test_data_without_a_source_must_be_given(tmp_path):
    fit(DATA, steps=5, out=tmp_path)
    with pytest.raises(RunError, match="does not say where its data came from; give data="):
        resume(tmp_path)


def test_changed_data_are_refused(finished, tmp_path):
    path = shutil.copytree(finished.path, tmp_path / "run")
    with pytest.raises(RunError, match=r"was trained on other data \(400 steps.* than these \(350 steps"):
        resume(path, synthetic(350))
    changed = DATA.actions.copy()
    changed[17, 1] += 1e-6
    with pytest.raises(RunError, match="was trained on other data"):
        resume(path, reverie.Dataset.from_arrays(DATA.observations, changed, DATA.rewards, timeouts=DATA.timeouts))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"algorithm": TinyBC(lr=0.5)}, "has lr=0.003 and not 0.5"),
        ({"seed": 1}, r"has seeds=\[0\] and not \[1\]"),
        ({"seeds": 2}, r"has seeds=\[0\] and not \[0, 1\]"),
        ({"segment": 10}, "has segment=5 and not 10"),
        ({"seeds_by": "vmap"}, "has seeds_by='auto' and not 'vmap'"),
    ],
)
def test_another_configuration_is_refused(finished, options, message):
    settings = {"algorithm": TinyBC(), "segment": 5} | options
    with pytest.raises(RunError, match=message):
        reverie.fit(data=DATA, steps=10, out=finished.path, resume=True, progress=False, **settings)


def test_a_run_is_never_overwritten(finished):
    before = {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="already holds a run; go on with it by resume=True"):
        fit(DATA, steps=10, out=finished.path)
    assert before == {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}


def test_folders_that_are_no_runs(tmp_path):
    (tmp_path / "letter.txt").touch()
    with pytest.raises(RunError, match=r"is not empty \(it has 'letter.txt'\) and holds no run"):
        fit(DATA, steps=5, out=tmp_path)
    with pytest.raises(RunError, match=r"There is no run in .*: it has no config.json"):
        reverie.load(tmp_path)
    with pytest.raises(RunError, match="cannot be written to: File exists"):
        fit(DATA, steps=5, out=tmp_path / "letter.txt")


def test_a_checkpoint_of_another_shape_is_refused(finished, tmp_path):
    path = shutil.copytree(finished.path, tmp_path / "run")
    config = (path / "config.json").read_text()
    (path / "config.json").write_text(config.replace("16", "8"))
    with pytest.raises(RunError, match=r"float32\[1, 3, 16\] where the algorithm has float32\[1, 3, 8\]"):
        reverie.load(path)
