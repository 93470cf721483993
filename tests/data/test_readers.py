"""Round trips through files, the published layouts, and the sentences for damaged or unknown sources."""

import pickle
import re

import h5py
import numpy as np
import pytest
from data_sets import assert_same, camera, three_episodes, write_hdf5

from reverie.data import Dataset
from reverie.data.readers import read
from reverie.errors import DataError

FEW = {
    "observations": np.zeros((4, 2)),
    "actions": np.zeros((4, 1)),
    "rewards": np.zeros(4),
    "terminals": np.zeros(4),
    "timeouts": np.array([0, 0, 0, 1]),
}


# D4RL


def test_d4rl_round_trip_bit_for_bit(tmp_path):
    source = f"d4rl:{tmp_path}/new/folder/three.hdf5"
    three_episodes().save(source)
    loaded = read(source)
    assert_same(three_episodes(), loaded)
    assert loaded.fingerprint == three_episodes().fingerprint
    assert loaded.attributes == {**three_episodes().attributes, "source": source}


def test_d4rl_round_trip_without_what_is_optional(tmp_path):
    bare = Dataset.from_arrays(np.zeros((2, 1)), np.zeros((2, 1)), terminals=[0, 1])
    bare.save(f"d4rl:{tmp_path}/bare.hdf5")
    loaded = read(f"d4rl:{tmp_path}/bare.hdf5")
    assert_same(bare, loaded)
    assert loaded.rewards is None and loaded.next_observations is None
    assert loaded.attributes["name"] == "bare"


def test_d4rl_reads_columns_of_one_and_nested_infos(tmp_path):
    columns = {key: np.array(FEW[key])[:, None] for key in ("rewards", "terminals", "timeouts")}
    nested = {"infos/agent/qpos": np.ones((4, 3)), "metadata/algorithm": "SAC"}
    loaded = read(write_hdf5(tmp_path / "old.hdf5", **FEW | columns | nested))
    assert loaded.rewards.shape == (4,) and loaded.observations.shape == (4, 2)
    assert list(loaded.infos) == ["agent/qpos"]


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=re.escape("There is no file 'nowhere/x.hdf5'; check the path.")):
        read("d4rl:nowhere/x.hdf5")


@pytest.mark.parametrize("bytes_kept", [0, 100, 5000])
def test_a_truncated_or_foreign_file_is_named(tmp_path, bytes_kept):
    path = tmp_path / "x.hdf5"
    three_episodes().save(f"d4rl:{path}")
    assert path.stat().st_size > 6000
    path.write_bytes(path.read_bytes()[:bytes_kept])
    with pytest.raises(DataError, match=r"x.hdf5' is not a whole HDF5 file \(.*\); download or write it again"):
        read(f"d4rl:{path}")


def test_missing_keys_are_named_beside_those_that_are_there(tmp_path):
    source = write_hdf5(tmp_path / "x.hdf5", observations=FEW["observations"], rewards=FEW["rewards"])
    with pytest.raises(DataError, match=re.escape("lacks 'actions', 'timeouts' (it has observations, rewards)")):
        read(source)


def test_a_file_without_timeouts_is_refused_with_the_way_out(tmp_path):
    source = write_hdf5(tmp_path / "x.hdf5", **{key: value for key, value in FEW.items() if key != "timeouts"})
    with pytest.raises(
        DataError, match=r"lacks 'timeouts' .*add one flag a step, true at the last step of every episode"
    ):
        read(source)


def test_a_file_without_terminals_is_read_as_such_and_written_as_such(tmp_path):
    arrays = {key: value for key, value in FEW.items() if key not in ("terminals", "next_observations")}
    bare = Dataset.from_arrays(**{**arrays, "timeouts": [0, 1, 0, 1]})
    bare.save(f"d4rl:{tmp_path}/bare.hdf5")
    loaded = read(f"d4rl:{tmp_path}/bare.hdf5")
    assert not loaded.terminals_known and loaded.fingerprint == bare.fingerprint
    with pytest.raises(DataError, match=re.escape("'bare' has no terminals")):
        loaded.take_episodes([0]).require_terminals()


@pytest.mark.parametrize("key", ["rewards", "terminals"])
def test_one_number_in_place_of_a_column_is_named(tmp_path, key):
    source = write_hdf5(tmp_path / "x.hdf5", **{**FEW, key: 1.0})
    with pytest.raises(DataError, match=f"'{key}' has shape"):
        read(source)


def test_a_group_in_place_of_a_column_is_missing(tmp_path):
    path = str(tmp_path / "x.hdf5")
    with h5py.File(path, "w") as file:
        file.create_group("observations")
    with pytest.raises(DataError, match="lacks 'observations'"):
        read(f"d4rl:{path}")


def test_values_in_a_file_are_checked(tmp_path):
    bad = FEW["observations"].copy()
    bad[2, 1] = np.nan
    with pytest.raises(DataError, match="'observations' holds nan at row 2, column 1"):
        read(write_hdf5(tmp_path / "x.hdf5", **FEW | {"observations": bad}))


@pytest.mark.parametrize("source", ["zarr:x", "d4rl:", ":x"])
def test_an_unknown_source_gets_the_list(source):
    with pytest.raises(DataError, match=rf"'{source}' names no known kind .*'d4rl:.*', 'minari:.*', 'ogbench:.*'"):
        read(source)


# Several at once


def test_several_sources_are_joined_and_the_joined_source_is_read_again(tmp_path):
    real, odd = f"d4rl:{tmp_path}/real.hdf5", f"d4rl:{tmp_path}/a+b.hdf5"
    three_episodes().save(real)
    three_episodes(next_observations=None).save(odd)
    joined = read(f"{odd}+{real}+{odd}")
    assert len(joined) == 11 + 12 + 11, "the cut step of each file without successors is left out"
    np.testing.assert_array_equal(joined.observations[11:23], three_episodes().observations)
    assert joined.attributes["source"] == f"{odd}+{real}+{odd}"
    assert_same(read(joined.attributes["source"]), joined)
    assert read(odd).attributes["name"] == "three", "a plus in a file's name joins nothing"


def test_bare_names_go_to_whoever_makes_them(tmp_path):
    asked = []
    three_episodes().save(f"d4rl:{tmp_path}/real.hdf5")
    joined = read(
        f"pointmaze-umaze+d4rl:{tmp_path}/real.hdf5+pointmaze-large",
        lambda name: asked.append(name) or three_episodes(),
    )
    assert len(joined) == 36
    assert asked == ["pointmaze-umaze", "pointmaze-large"]
    with pytest.raises(DataError, match="'pointmaze-umaze' names no known kind of data"):
        read("pointmaze-umaze")


BAD = {
    "a value": ({"observations": np.full((4, 2), np.nan)}, "'observations' holds nan at row 0, column 0"),
    "an end": ({"timeouts": np.zeros(4)}, "No episode ends"),
    "a name": ({"rewards": np.zeros(3)}, "'rewards' has 3 rows where 'observations' has 4"),
    "a missing key": ({"actions": None}, "lacks 'actions'"),
}


@pytest.mark.parametrize("changed, sentence", BAD.values(), ids=BAD)
def test_what_is_wrong_is_said_of_the_file_in_which_it_is(tmp_path, changed, sentence):
    good = write_hdf5(tmp_path / "good.hdf5", **FEW)
    bad = write_hdf5(tmp_path / "bad.hdf5", **{key: x for key, x in (FEW | changed).items() if x is not None})
    with pytest.raises(DataError, match=re.escape(sentence)) as caught:
        read(f"{good}+{bad}")
    assert str(caught.value).count("bad.hdf5") == 1
    assert "good.hdf5" not in str(caught.value)


def test_files_that_do_not_match_are_named_though_their_data_have_one_name(tmp_path):
    first, second = (f"d4rl:{tmp_path}/{name}.hdf5" for name in ("first", "second"))
    three_episodes().save(first)
    three_episodes(actions=np.zeros((12, 4)), action_low=-1).save(second)
    with pytest.raises(DataError, match=f"'{first}' has 2 columns of actions and '{second}' has 4"):
        read(f"{first}+{second}")


def test_errors_of_whoever_makes_a_bare_name_have_the_name():
    def failed(name):
        raise DataError("No room is left.")

    with pytest.raises(DataError, match=r"^'maze': No room is left\.$"):
        read("maze", failed)


# Dictionaries


def test_dictionaries_come_back_bit_for_bit(tmp_path):
    source = f"d4rl:{tmp_path}/camera.hdf5"
    camera().save(source)
    loaded = read(source)
    assert_same(camera(), loaded)
    assert loaded.fingerprint == camera().fingerprint
    assert loaded.observation_space == camera().observation_space
    assert loaded.attributes == {"name": "camera", "source": source}


def test_joined_dictionaries(tmp_path):
    camera().save(f"d4rl:{tmp_path}/camera.hdf5")
    joined = read(f"d4rl:{tmp_path}/camera.hdf5+d4rl:{tmp_path}/camera.hdf5")
    np.testing.assert_array_equal(joined.observations["front"][5:], camera().observations["front"])
    assert joined.observation_space == camera().observation_space


def test_d4rl_groups_of_groups_are_refused(tmp_path):
    nested = {key: value for key, value in FEW.items() if key != "observations"}
    with pytest.raises(DataError, match=r"'observations' has an entry named 'arm/left'; .* without a slash"):
        read(write_hdf5(tmp_path / "x.hdf5", **nested, **{"observations/arm/left": np.zeros((4, 2))}))


def test_costs_are_read_where_dsrl_has_them(tmp_path):
    loaded = read(write_hdf5(tmp_path / "x.hdf5", **FEW, costs=np.array([[0], [1], [0], [2.0]])))
    np.testing.assert_array_equal(loaded.require_costs(), [0, 1, 0, 2])
    assert loaded.costs.dtype == np.float32


def test_ogbench_images(tmp_path):
    pictures = np.arange(4 * 3 * 2 * 3, dtype=np.uint8).reshape(4, 3, 2, 3)
    np.savez(tmp_path / "visual.npz", observations=pictures, actions=np.zeros((4, 1)), terminals=[0, 0, 0, 1])
    loaded = read(f"ogbench:{tmp_path}/visual.npz")
    assert loaded.observations.dtype == np.uint8
    np.testing.assert_array_equal(loaded.observations, pictures[:3])
    np.testing.assert_array_equal(loaded.next_observations, pictures[1:])


# OGBench


def test_ogbench_rows_by_hand(tmp_path):
    # Two trajectories of two and one steps: s0 s1 s2 | s0 s1; the last row of each has no successor.
    np.savez(
        tmp_path / "cube.npz",
        observations=np.array([[0.0], [1], [2], [10], [11]]),
        actions=np.array([[0.1], [0.2], [9], [0.3], [9]]),
        terminals=np.array([0, 0, 1, 0, 1.0]),
        qpos=np.arange(10).reshape(5, 2),
    )
    loaded = read(f"ogbench:{tmp_path}/cube.npz")
    np.testing.assert_array_equal(loaded.observations[:, 0], [0, 1, 10])
    np.testing.assert_array_equal(loaded.next_observations[:, 0], [1, 2, 11])
    np.testing.assert_allclose(loaded.actions[:, 0], [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_array_equal(loaded.timeouts, [0, 1, 1])
    assert not loaded.terminals.any() and loaded.rewards is None
    np.testing.assert_array_equal(loaded.infos["qpos"], [[0, 1], [2, 3], [6, 7]])
    assert loaded.attributes == {"name": "cube", "source": f"ogbench:{tmp_path}/cube.npz"}


def test_an_open_last_trajectory_is_kept_up_to_its_last_successor(tmp_path):
    np.savez(tmp_path / "x.npz", observations=np.arange(4.0)[:, None], actions=np.zeros((4, 1)), terminals=[0, 1, 0, 0])
    loaded = read(f"ogbench:{tmp_path}/x.npz")
    np.testing.assert_array_equal(loaded.next_observations[:, 0], [1, 3])
    np.testing.assert_array_equal(loaded.timeouts, [1, 1])


def test_pickled_objects_are_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "x.npz", observations=trap, actions=np.zeros((1, 1)), terminals=[1])
    with pytest.raises(DataError, match=r"x.npz' holds pickled Python objects, .* are refused"):
        read(f"ogbench:{tmp_path}/x.npz")
    (tmp_path / "y.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"y.npz' is not a whole npz file"):
        read(f"ogbench:{tmp_path}/y.npz")
    assert not (tmp_path / "sprung").exists()


def test_damaged_and_incomplete_npz_files_are_named(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, observations=np.zeros((4, 1)), terminals=[0, 0, 0, 1])
    with pytest.raises(DataError, match=re.escape("x.npz' lacks 'actions' (it has observations, terminals)")):
        read(f"ogbench:{path}")
    np.savez(path, observations=np.zeros((4, 1)), actions=np.zeros((3, 1)), terminals=[0, 0, 0, 1])
    with pytest.raises(DataError, match="has 4 observations, 3 actions and 4 terminals"):
        read(f"ogbench:{path}")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"x.npz' is not a whole npz file; download it again"):
        read(f"ogbench:{path}")
