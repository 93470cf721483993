"""The same rows whether or not the process was killed, and no part is taken for another's."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from reverie.data import Dataset, Field, Spec
from reverie.data.appendable import WRITTEN, AppendableHDF5
from reverie.data.readers import read
from reverie.errors import DataError

ROWS, PIECE = 2000, 50
SPEC = Spec(2, 1, -jnp.ones(1), jnp.ones(1), {})
SAME = {"name": "grown", "key": 3, "synthetic": True}


def piece(number, size=PIECE):
    """Rows that are a function of the piece's number."""
    draw = np.random.default_rng(number)
    ends = draw.random(size) < 0.3
    return Dataset.from_arrays(
        draw.normal(size=(size, 2)), draw.uniform(-1, 1, (size, 1)), draw.normal(size=size), ends, ~ends,
        next_observations=draw.normal(size=(size, 2)),
    )  # fmt: skip


def go_on(path, until=ROWS, rows=ROWS, attributes=SAME):
    with AppendableHDF5(str(path), SPEC, rows, attributes) as file:
        while file.written < until:
            file.append(piece(file.written // PIECE))
        if until == rows:
            file.finish()
        return file.written


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "whole.hdf5"
    go_on(path)
    return path


def test_the_finished_file_is_a_data_set_of_the_pieces(whole):
    data = read(f"d4rl:{whole}")
    assert len(data) == len(data.episodes) == ROWS
    for key in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts"):
        expected = np.concatenate([getattr(piece(i), key) for i in range(ROWS // PIECE)])
        np.testing.assert_array_equal(getattr(data, key), expected)
    assert {**data.attributes, **SAME} == data.attributes
    assert (data.action_low, data.action_high) == ([-1], [1])
    assert list(whole.parent.iterdir()) == [whole]


def test_an_interrupted_file_goes_on_and_is_the_same_byte_for_byte(whole, tmp_path):
    path = tmp_path / "cut.hdf5"
    assert [go_on(path, until=until) for until in (0, 50, 700)] == [0, 50, 700]
    assert not path.exists()
    go_on(path)
    assert path.read_bytes() == whole.read_bytes()


def test_rows_that_were_being_written_do_not_count(whole, tmp_path):
    path = tmp_path / "torn.hdf5"
    go_on(path, until=100)
    with h5py.File(f"{path}.part", "r+") as file:  # a kill between the rows and their number
        file["observations"][100:130] = 9.0
        file["timeouts"][100:140] = True
    go_on(path)
    assert path.read_bytes() == whole.read_bytes()


CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
import test_appendable as t
with t.AppendableHDF5(sys.argv[1], t.SPEC, t.ROWS, t.SAME) as file:
    for made in [t.piece(i) for i in range(t.ROWS // t.PIECE)]:
        file.append(made)
        print(file.written, flush=True)
"""


@pytest.mark.parametrize("seen", [1, 8, 25])
def test_a_killed_process_leaves_what_it_wrote(whole, tmp_path, seen):
    """SIGKILL at some moment after so many pieces, while the next are written as fast as can be."""
    path = tmp_path / "killed.hdf5"
    command = [sys.executable, "-c", CHILD, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for _ in range(seen):
            child.stdout.readline()
        child.kill()
        child.communicate()
    with h5py.File(f"{path}.part", "r") as file:
        assert file[WRITTEN][()] >= seen * PIECE
    go_on(path)
    assert path.read_bytes() == whole.read_bytes()


def test_a_part_in_use_is_left_alone(tmp_path):
    path = tmp_path / "used.hdf5"
    go_on(path, until=50)
    code = f"import h5py; file = h5py.File({str(path)!r} + '.part', 'r+'); print('open', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        with pytest.raises(DataError, match="Another process is writing"):
            go_on(path)
        child.communicate(b"\n")
    assert go_on(path, until=100) == 100


@pytest.mark.parametrize(
    ("rows", "changed", "sentence"),
    [
        (ROWS, {"key": 4}, "was begun with key = 3 and not 4; finish it with the command that began it, delete it"),
        (ROWS, {"updates": 10}, "was begun with updates = None and not 10"),
        (ROWS + 1, {}, f"was begun with rows = {ROWS} and not {ROWS + 1}"),
    ],
)
def test_a_part_of_something_else_is_refused_and_kept(tmp_path, rows, changed, sentence):
    path = tmp_path / "other.hdf5"
    go_on(path, until=100)
    with pytest.raises(DataError, match=sentence):
        go_on(path, rows=rows, attributes=SAME | changed)
    assert go_on(path, until=100) == 100


def test_a_file_that_is_no_part_is_named(tmp_path):
    (tmp_path / "x.hdf5.part").write_bytes(b"something else")
    with pytest.raises(DataError, match=r"is no part of a data set .*; delete it to begin anew"):
        go_on(tmp_path / "x.hdf5")


def test_a_full_disk_is_noticed_before_the_work(tmp_path, monkeypatch):
    row = 4 * (2 + 1 + 1 + 2) + 2
    free = SimpleNamespace(free=ROWS * row - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(
        DataError, match=f"{ROWS} rows take 0.052 MB in .* at most {ROWS - 1} rows or choose another place"
    ):
        go_on(tmp_path / "full.hdf5")
    assert not list(tmp_path.iterdir())
    free.free += 1
    go_on(tmp_path / "full.hdf5", until=100)
    free.free = (ROWS - 100) * row  # only what is missing must have room
    go_on(tmp_path / "full.hdf5")


def test_an_error_of_the_disk_keeps_what_was_written(tmp_path, monkeypatch):
    with AppendableHDF5(str(tmp_path / "error.hdf5"), SPEC, ROWS, SAME) as file:
        file.append(piece(0))
        monkeypatch.setattr(h5py.Dataset, "__setitem__", _no_space)
        with pytest.raises(DataError, match=r"No space left.* it holds 50 rows, from which the same command goes on"):
            file.append(piece(1))
    monkeypatch.undo()
    assert go_on(tmp_path / "error.hdf5", until=50) == 50


def test_only_vectors_are_kept(tmp_path):
    spec = Spec({"eye": Field((8, 8, 3), "uint8", "image")}, 1, -jnp.ones(1), jnp.ones(1), {})
    with pytest.raises(DataError, match=r"its observations would be a dictionary of eye .*; only vectors are"):
        AppendableHDF5(str(tmp_path / "seen.hdf5"), spec, ROWS, SAME)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"costs": np.ones(PIECE, np.float32)}, "their data has 'costs', and row by row exactly actions, next_obs"),
        ({"infos": {"goal": np.ones((PIECE, 2))}}, "their data has 'infos/goal'"),
        ({"rewards": None}, "their data lacks 'rewards'"),
    ],
)
def test_a_piece_with_other_arrays_is_refused_and_the_rows_before_stay(tmp_path, changed, message):
    with AppendableHDF5(str(tmp_path / "more.hdf5"), SPEC, ROWS, SAME) as file:
        file.append(piece(0))
        with pytest.raises(DataError, match=message):
            file.append(replace(piece(1), **changed))
        file.append(replace(piece(1), action_low=np.float32([-1]), action_high=np.float32([1])))
        assert file.written == 2 * PIECE


def _no_space(*_):
    raise OSError("No space left on device")
