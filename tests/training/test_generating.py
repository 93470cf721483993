"""Data made by several processes: the rows of one, bit for bit, and on from where they were stopped."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_algorithm import TinyBC, synthetic

import reverie
from reverie.data.appendable import AppendableHDF5
from reverie.data.readers import read
from reverie.errors import RunError
from reverie.synthesizers import S4RL, Inpainting

DATA = replace(synthetic(), terminals_known=True)


@pytest.fixture(scope="module")
def run():
    return reverie.fit(S4RL(chunk=50), DATA, steps=1, progress=False)


def test_two_processes_make_the_rows_of_one_in_their_order(run, tmp_path, monkeypatch):
    one, two = (f"d4rl:{tmp_path / name}.hdf5" for name in ("one", "two"))
    run.write(one, 430, key=3, progress=False)
    append = AppendableHDF5.append

    def stopped(file, piece):
        if file.written == 150:
            raise KeyboardInterrupt
        append(file, piece)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AppendableHDF5, "append", stopped)
        run.write(two, 430, key=3, progress=False)
    assert list(run.algorithm.pieces(430, 150))[0::5] == [(150, 200), (400, 430)]
    run.write(two, 430, key=3, workers=2, progress=False)
    a, b = read(one), read(two)
    for name in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.fingerprint == b.fingerprint


def test_what_several_processes_cannot_make(run):
    with pytest.raises(RunError, match="workers=0 must be at least 1"):
        run.generate(10, workers=0)
    with pytest.raises(RunError, match="makes its rows one after another; leave workers=2 out"):
        replace(run, algorithm=Inpainting()).generate(10, workers=2)
    with pytest.raises(RunError, match="tiny-bc is a policy"):
        replace(run, algorithm=TinyBC()).generate(10, workers=2)
