"""Damaged files of every kind: each is read, or refused in a sentence; nothing else is raised, and nothing hangs."""

import hashlib
import json
import os
import shutil
import zipfile
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reverie
from reverie.baselines import BC
from reverie.data import Dataset
from reverie.errors import ReverieError

EXAMPLES = int(os.environ.get("REVERIE_FUZZ", "200"))
FOLDER = TemporaryDirectory(prefix="reverie-fuzz-")
STATES = np.random.default_rng(0).normal(size=(2, 7, 2))
DATA = Dataset.from_arrays(
    STATES[:, :-1].reshape(12, 2), np.zeros((12, 1)), np.zeros(12), timeouts=np.arange(12) % 6 == 5,
    next_observations=STATES[:, 1:].reshape(12, 2), action_low=-1.0, action_high=1.0,
)  # fmt: skip


@st.composite
def damages(draw):
    """What to do to a file's bytes: places as shares of its length."""
    places = st.floats(0, 1, exclude_max=True)
    kind = draw(st.sampled_from(("flip", "cut", "repeat", "blank", "number", "several")))
    return kind, draw(st.lists(places, min_size=1, max_size=6)), draw(st.binary(min_size=1, max_size=8))


def damaged(content: bytes, damage) -> bytes:
    kind, places, new = damage
    found, at = bytearray(content), [int(place * len(content)) for place in places]
    if kind == "cut":
        return bytes(found[: at[0]])
    if kind == "repeat":
        return bytes(found[: at[0]] + found[at[0] // 2 :])
    if kind == "blank":
        found[at[0] : at[0] + 16] = bytes(len(found[at[0] : at[0] + 16]))
    if kind == "number":  # sizes and offsets are whole numbers of eight bytes in all of these formats
        found[at[0] : at[0] + 8] = (b"\xff" * 7 + b"\x7f")[: len(found[at[0] : at[0] + 8])]
    if kind == "flip":
        found[at[0]] ^= 1 << (new[0] % 8)
    if kind == "several":
        for place, byte in zip(at, new, strict=False):
            found[place] = byte
    return bytes(found)


PARTS = {"header": "dataset.json", "shard": "000000.parquet"}
"""Of a folder of shards."""


@cache
def whole(kind: str) -> bytes:
    path = Path(FOLDER.name) / f"whole-{kind}"
    if kind == "d4rl":
        DATA.save(f"d4rl:{path}.hdf5")
        return path.with_suffix(".hdf5").read_bytes()
    if kind == "ogbench":
        DATA.save(f"ogbench:{path}.npz")
        return path.with_suffix(".npz").read_bytes()
    if kind in ("header", "shard"):
        DATA.save(f"parquet:{path}")
        return (path / PARTS[kind]).read_bytes()
    reverie.fit(BC(hidden=(4,), batch_size=4), DATA, steps=1, progress=False).export(path)
    return path.read_bytes()


def read(kind: str, content: bytes) -> None:
    if kind in PARTS:
        reverie.load_dataset(f"parquet:{folder_with(kind, content)}")
        return
    suffix = {"d4rl": "hdf5", "ogbench": "npz"}.get(kind, "safetensors")
    path = Path(FOLDER.name) / f"damaged.{suffix}"
    path.write_bytes(content)
    if kind == "run":
        reverie.load(path)
    else:
        reverie.load_dataset(f"{kind}:{path}")


def folder_with(kind: str, content: bytes) -> Path:
    """The header says of a shard what it is, lest its digest alone be looked at."""
    path = Path(FOLDER.name) / f"damaged-{kind}"
    shutil.copytree(Path(FOLDER.name) / f"whole-{kind}", path, dirs_exist_ok=True)
    (path / PARTS[kind]).write_bytes(content)
    if kind == "shard":
        said = json.loads((path / PARTS["header"]).read_text())
        said["shards"][0][2:] = len(content), hashlib.sha256(content).hexdigest()
        (path / PARTS["header"]).write_text(json.dumps(said))
    return path


KINDS = ["d4rl", "ogbench", "header", "shard", "run"]


@pytest.mark.parametrize("kind", KINDS)
@given(damage=damages())
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None)
def test_a_damaged_file_is_read_or_refused(kind, damage):
    try:
        read(kind, damaged(whole(kind), damage))
    except ReverieError as error:
        assert "\n" not in str(error).strip()


@pytest.mark.parametrize("kind", KINDS)
def test_undamaged_they_are_read(kind):
    read(kind, whole(kind))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "bc"
    reverie.fit(BC(hidden=(4,), batch_size=4), DATA, steps=1, out=path, progress=False)
    return path


@pytest.mark.parametrize("name", ["config.json", "spec.json", "spec.npz", "metrics.csv", "evaluation.json"])
def test_a_run_with_a_damaged_file_is_read_or_refused(name, folder):
    content = (folder / name).read_bytes() if (folder / name).exists() else b'{"fork": [{"step": 1}]}'

    @given(damage=damages())
    @settings(max_examples=EXAMPLES // 4, derandomize=True, deadline=None, database=None)
    def check(damage):
        (folder / name).write_bytes(damaged(content, damage))
        try:
            reverie.load(folder)
        except ReverieError as error:
            assert "\n" not in str(error).strip()

    try:
        check()
    finally:
        (folder / name).write_bytes(content)


def test_an_archive_with_paths_that_lead_elsewhere_writes_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("../outside.npy", b"x")
    with pytest.raises(ReverieError):
        reverie.load_dataset(f"ogbench:{tmp_path / 'x.npz'}")
    assert not (tmp_path.parent / "outside.npy").exists()


def test_arrays_of_objects_are_never_unpickled(tmp_path):
    fired = []

    class Bomb:
        def __reduce__(self):
            return fired.append, (1,)

    np.savez(tmp_path / "x.npz", observations=np.array([Bomb()], dtype=object))
    with pytest.raises(ReverieError):
        reverie.load_dataset(f"ogbench:{tmp_path / 'x.npz'}")
    assert not fired


def test_a_header_that_asks_for_more_memory_than_there_is_is_refused(tmp_path):
    """Sizes are compared with the file's before anything is read."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ReverieError):
        reverie.load(tmp_path / "x.safetensors")
