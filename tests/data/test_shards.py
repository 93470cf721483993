"""Folders of shards: written a part at a time, and read as they were written."""

import json
from functools import partial

import numpy as np
import pytest
from data_sets import arrays

import reverie
from reverie.data import Dataset, concatenate
from reverie.data.moments import Moments
from reverie.data.normalisers import CDF, Gaussian, MinMax
from reverie.data.shard_layout import read_header
from reverie.data.shard_writer import ShardWriter
from reverie.data.shards import read_shards
from reverie.errors import DataError

DATA = Dataset.from_arrays(**arrays(), action_low=-1.0, action_high=1.0, attributes={"name": "six"})


@pytest.fixture
def folder(tmp_path):
    DATA.save(f"parquet:{tmp_path / 'set'}")
    return tmp_path / "set"


def episodes(count, length=4, seed=0):
    draw = np.random.default_rng(seed)
    steps = count * length
    return Dataset.from_arrays(
        draw.normal(size=(steps, 3)),
        draw.uniform(-1, 1, (steps, 2)),
        draw.normal(size=steps),
        timeouts=np.arange(steps) % length == length - 1,
        attributes={"seed": seed},
    )


def assert_same(first, second):
    there, here = first.arrays(), second.arrays()
    assert there.keys() == here.keys()
    for key in there:
        assert there[key].dtype == here[key].dtype
        np.testing.assert_array_equal(there[key], here[key])
    assert first.terminals_known == second.terminals_known


def test_what_is_read_is_what_was_written(folder):
    read = reverie.load_dataset(f"parquet:{folder}")
    assert_same(read, DATA)
    assert read.attributes == {"name": "six", "source": f"parquet:{folder}"}


def test_images_tokens_agents_and_unknown_terminals_too(tmp_path):
    draw = np.random.default_rng(0)
    seen = {
        "camera": draw.integers(0, 256, (6, 4, 5, 3), np.uint8),
        "words": draw.integers(0, 9, (6, 7)),
        "state": draw.normal(size=(6, 2, 3)),
    }
    ends = np.arange(6) == 5
    data = Dataset.from_arrays(
        seen, draw.uniform(size=(6, 2, 2)), costs=np.ones(6), timeouts=ends, ends=ends, infos={"byte": seen["words"]}
    )
    data.save(f"parquet:{tmp_path / 'set'}")
    assert_same(reverie.load_dataset(f"parquet:{tmp_path / 'set'}"), data)


def test_shards_are_whole_episodes_whatever_the_parts(tmp_path):
    parts = [episodes(count, seed=count) for count in (1, 1, 5, 3)]
    with ShardWriter(str(tmp_path / "set"), {"name": "all"}, shard_rows=10) as writer:
        for part in parts:
            writer.append(part)
    header = read_header(str(tmp_path / "set"))
    assert [(shard.rows, shard.episodes) for shard in header.shards] == [(12, 3), (12, 3), (12, 3), (4, 1)]
    whole = concatenate(*parts)
    read = read_shards(header, range(4))
    assert_same(read, whole)
    assert read.attributes["name"] == "all"
    assert_same(read_shards(header, [1]), whole.take_episodes([3, 4, 5]))
    returns = whole.returns
    assert {3 * shard + episode for shard, episode in header.extremes} == {0, returns.argmin(), returns.argmax()}


def test_statistics_of_the_shards_are_those_of_all_rows(tmp_path):
    data = episodes(20)
    with ShardWriter(str(tmp_path / "set"), shard_rows=8) as writer:
        writer.append(data)
    moments = read_header(str(tmp_path / "set")).moments
    for key in ("observations", "actions", "rewards"):
        columns = getattr(data, key).reshape(len(data), -1)
        for kind in (Gaussian, MinMax):
            for merged, whole in zip(
                vars(moments[key].normaliser(kind)).values(), vars(kind.fit(columns)).values(), strict=True
            ):
                np.testing.assert_allclose(merged, whole, rtol=2e-7, atol=1e-8)  # one unit in the last place
    assert moments["rewards"].normaliser(CDF) is None
    assert float(Moments.of(np.full(7, 0.1, np.float32)).normaliser(Gaussian).std[0]) == 0


def test_parts_that_differ_are_refused(tmp_path):
    writer = ShardWriter(str(tmp_path / "set"))
    with pytest.raises(DataError, match="Nothing was appended"):
        writer.finish()
    writer.append(DATA)
    wider = Dataset.from_arrays(**{**arrays(), "observations": np.ones((6, 3))}, action_low=-1.0, action_high=1.0)
    for other, said in (
        (wider, "columns|vectors"),
        (Dataset.from_arrays(**arrays()), "no bounds"),
        (Dataset.from_arrays(**arrays() | {"infos": {}}, action_low=-1.0, action_high=1.0), "the same arrays"),
        (Dataset.from_arrays(**arrays() | {"terminals": None}, action_low=-1.0, action_high=1.0), "unknown terminals"),
    ):
        with pytest.raises(DataError, match=said):
            writer.append(other)
    writer.finish()
    with pytest.raises(DataError, match="exists already and is not empty"):
        ShardWriter(str(tmp_path / "set"))


def test_what_was_not_finished_is_no_data_set(tmp_path):
    with pytest.raises(ZeroDivisionError), ShardWriter(str(tmp_path / "set"), shard_rows=1) as writer:
        writer.append(DATA)
        raise ZeroDivisionError
    with pytest.raises(DataError, match=r"There is no whole data set in .*dataset\.json, which is written last"):
        reverie.load_dataset(f"parquet:{tmp_path / 'set'}")


def change(folder, **changed):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def rewritten(folder, damage):
    path = folder / "000000.parquet"
    path.write_bytes(damage(path.read_bytes()))


COLUMNS = {"observations": [[2], "float32"], "actions": [[1], "float32"], "timeouts": [[], "bool"]}
MOMENTS = {"actions": Moments.of(DATA.actions).plain()}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (partial(rewritten, damage=lambda content: content[:-1]), "000000.parquet' is damaged"),
        (partial(rewritten, damage=lambda content: content[:-1] + b"x"), "000000.parquet' is damaged"),
        (lambda folder: (folder / "000000.parquet").unlink(), "There is no file .*000000.parquet"),
        (partial(change, columns=COLUMNS, moments=MOMENTS), "has the columns observations .* where dataset.json says"),
        (partial(change, columns=COLUMNS | {"observations": [[1 << 40], "float32"]}, moments=MOMENTS), "GB of memory"),
        (partial(change, moments={}), "has no statistics of 'actions'"),
        (partial(change, columns=COLUMNS | {"actions": [[1], "object"]}), "of type 'object'"),
        (partial(change, columns={"../x": [[1], "float32"]}), "lists no shards of observations"),
        (partial(change, shards=[]), "lists no shards"),
        (partial(change, shards=[[-1, 1, 1, ""]]), "is damaged, or of another kind"),
        (partial(change, extremes=[[0, 7]]), "episode 7 of shard 0"),
        (partial(change, moments={}, version=2), "version 2 where 1"),
    ],
)
def test_a_damaged_folder_is_refused(folder, damage, said):
    damage(folder)
    with pytest.raises(DataError, match=said) as error:
        reverie.load_dataset(f"parquet:{folder}")
    assert "\n" not in str(error.value)


def test_rows_that_a_header_claims_are_not_made_room_for(folder):
    """Its file has six."""
    said = json.loads((folder / "dataset.json").read_text())
    said["shards"][0][0] = 7
    change(folder, **said)
    with pytest.raises(DataError, match=r"has 6 rows where dataset\.json says 7"):
        reverie.load_dataset(f"parquet:{folder}")
