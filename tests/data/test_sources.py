"""Round trips through files, the published layouts, and the sentences for damaged or unknown sources."""

import builtins
import json
import pickle
import re

import h5py
import numpy as np
import pytest

from reverie.data import Dataset
from reverie.data.readers import read
from reverie.data.writers import check_target
from reverie.errors import DataError


def data(**changed):
    """Three episodes of 4 (terminal), 3 (cut) and 5 steps (both flags), successors consistent inside each."""
    draw = np.random.default_rng(0)
    observations = draw.normal(size=(12, 3)).astype(np.float32)
    following = np.concatenate([observations[1:], np.zeros((1, 3))])
    following[[3, 6, 11]] = draw.normal(size=(3, 3))
    given = {
        "observations": observations,
        "actions": draw.uniform(-1, 1, (12, 2)),
        "rewards": draw.normal(size=12),
        "terminals": np.isin(np.arange(12), [3, 11]),
        "timeouts": np.isin(np.arange(12), [6, 11]),
        "next_observations": following,
        "infos": {"goal": draw.normal(size=(12, 2)), "cell": np.arange(12)},
        "action_low": [-1, -2],
        "action_high": 1,
        "attributes": {"name": "three", "environment": "None-v0", "noise": [0.0, 0.1], "steps": 12},
    }
    return Dataset.from_arrays(**given | changed)


def assert_same(first, second):
    assert first.arrays().keys() == second.arrays().keys()
    for key, array in first.arrays().items():
        assert array.dtype == second.arrays()[key].dtype, key
        np.testing.assert_array_equal(array, second.arrays()[key], key)


def write_hdf5(path, **arrays):
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            file[key] = value
    return f"d4rl:{path}"


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
    data().save(source)
    loaded = read(source)
    assert_same(data(), loaded)
    assert loaded.fingerprint == data().fingerprint
    assert loaded.attributes == {**data().attributes, "source": source}


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


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path):
    target = f"d4rl:{tmp_path}/x.hdf5"
    data().save(target)
    data(rewards=None).save(target)
    assert read(target).rewards is None
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]


def test_a_failed_save_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    target = f"d4rl:{tmp_path}/x.hdf5"
    data().save(target)

    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(DataError, match=r"x.hdf5' cannot be written \(no space left\)"):
        data(rewards=None).save(target)
    monkeypatch.undo()
    assert read(target).fingerprint == data().fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/x.hdf5' cannot be written \(.*\); choose another place"):
        data().save(f"d4rl:{tmp_path}/file/x.hdf5")


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match=re.escape("There is no file 'nowhere/x.hdf5'; check the path.")):
        read("d4rl:nowhere/x.hdf5")


@pytest.mark.parametrize("bytes_kept", [0, 100, 5000])
def test_a_truncated_or_foreign_file_is_named(tmp_path, bytes_kept):
    path = tmp_path / "x.hdf5"
    data().save(f"d4rl:{path}")
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


def test_an_unknown_target_gets_the_list_of_what_can_be_written():
    with pytest.raises(DataError, match=r"'ogbench:x.npz' names no known kind") as caught:
        data().save("ogbench:x.npz")
    assert "'ogbench:PATH.npz'" not in str(caught.value)


# Several at once


def test_several_sources_are_joined_and_the_joined_source_is_read_again(tmp_path):
    real, odd = f"d4rl:{tmp_path}/real.hdf5", f"d4rl:{tmp_path}/a+b.hdf5"
    data().save(real)
    data(next_observations=None).save(odd)
    joined = read(f"{odd}+{real}+{odd}")
    assert len(joined) == 11 + 12 + 11, "the cut step of each file without successors is left out"
    np.testing.assert_array_equal(joined.observations[11:23], data().observations)
    assert joined.attributes["source"] == f"{odd}+{real}+{odd}"
    assert_same(read(joined.attributes["source"]), joined)
    assert read(odd).attributes["name"] == "three", "a plus in a file's name joins nothing"


def test_bare_names_go_to_whoever_makes_them(tmp_path):
    asked = []
    data().save(f"d4rl:{tmp_path}/real.hdf5")
    joined = read(
        f"pointmaze-umaze+d4rl:{tmp_path}/real.hdf5+pointmaze-large", lambda name: asked.append(name) or data()
    )
    assert len(joined) == 36
    assert asked == ["pointmaze-umaze", "pointmaze-large"]
    with pytest.raises(DataError, match="'pointmaze-umaze' names no known kind of data"):
        read("pointmaze-umaze")


# Minari


@pytest.fixture
def minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari")


def collect(minari, identity, observations, ends, space, infos=None):
    """A Minari data set made by Minari's own function: `ends` gives steps, terminal and cut for every episode."""
    from gymnasium.spaces import Box

    buffers = [
        minari.data_collector.EpisodeBuffer(
            observations=observed,
            actions=np.full((steps, 1), 0.5, np.float32),
            rewards=np.arange(steps, dtype=np.float64),
            terminations=np.arange(steps) == (steps - 1 if terminal else -1),
            truncations=np.arange(steps) == (steps - 1 if cut else -1),
            infos=infos,
        )
        for observed, (steps, terminal, cut) in zip(observations, ends, strict=True)
    ]
    minari.create_dataset_from_buffers(
        identity, buffers, observation_space=space, action_space=Box(-2, 2, (1,), np.float32), data_format="hdf5"
    )


def test_minari_round_trip_bit_for_bit(minari):
    data().save("minari:mine/three-v0")
    loaded = read("minari:mine/three-v0")
    assert_same(data(), loaded)
    assert loaded.fingerprint == data().fingerprint
    assert loaded.attributes == {**data().attributes, "source": "minari:mine/three-v0"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minaris_last_observation_and_open_episodes(minari):
    from gymnasium.spaces import Box

    observations = [np.arange(6.0).reshape(3, 2), np.arange(8.0).reshape(4, 2) + 100]
    infos = {"after": np.arange(3.0), "note": np.arange(7)}
    collect(
        minari, "mine/walk-v1", observations, [(2, True, False), (3, False, False)], Box(-np.inf, np.inf, (2,)), infos
    )
    loaded = read("minari:mine/walk-v1")
    np.testing.assert_array_equal(loaded.observations[:, 0], [0, 2, 100, 102, 104])
    np.testing.assert_array_equal(loaded.next_observations[:, 0], [2, 4, 102, 104, 106])
    np.testing.assert_array_equal(loaded.terminals, [0, 1, 0, 0, 0])
    np.testing.assert_array_equal(loaded.timeouts, [0, 0, 0, 0, 1])
    np.testing.assert_array_equal(loaded.infos["after"], [1, 2, 0, 1, 2])
    assert list(loaded.infos) == ["after"]
    assert (loaded.action_low, loaded.action_high) == (-2, 2)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minaris_goal_environments(minari):
    from gymnasium.spaces import Box, Dict

    parts = {"observation": 2, "desired_goal": 1, "achieved_goal": 1}
    space = Dict({key: Box(-np.inf, np.inf, (size,)) for key, size in parts.items()})
    observed = {key: np.arange(3.0 * size).reshape(3, size) + size for key, size in parts.items()}
    collect(minari, "maze-v0", [observed], [(2, False, True)], space)
    loaded = read("minari:maze-v0")
    np.testing.assert_array_equal(loaded.observations, [[2, 3], [4, 5]])
    np.testing.assert_array_equal(loaded.next_observations, [[4, 5], [6, 7]])
    np.testing.assert_array_equal(loaded.infos["goal"], [[1], [2]])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minaris_other_dictionaries_are_refused(minari):
    from gymnasium.spaces import Box, Dict

    space = Dict({"left": Box(-1, 1, (2,)), "right": Box(-1, 1, (2,))})
    collect(minari, "eyes-v0", [{"left": np.zeros((3, 2)), "right": np.zeros((3, 2))}], [(2, True, False)], space)
    with pytest.raises(DataError, match="made of left, right, none of them 'observation'; flatten them"):
        read("minari:eyes-v0")


def test_a_minari_data_set_that_is_not_here_is_downloaded(minari, monkeypatch):
    asked = []

    def download(identity):
        asked.append(identity)
        data().save(f"minari:{identity}")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", download)
    assert read("minari:far/away-v3").fingerprint == data().fingerprint
    assert read("minari:far/away-v3").fingerprint == data().fingerprint
    assert asked == ["far/away-v3"], "the second time it is here"


def test_a_failed_download_says_why(minari, monkeypatch):
    def download(identity):
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr("minari.storage.hosting.download_dataset", download)
    with pytest.raises(
        DataError, match=r"no Minari data set 'far/away-v3' .*\(ConnectionError: no route to host\); 'min"
    ):
        read("minari:far/away-v3")


@pytest.mark.parametrize("file", ["metadata.json", "main_data.hdf5"])
def test_a_damaged_minari_data_set_is_named(minari, tmp_path, file):
    data().save("minari:mine/three-v0")
    path = tmp_path / "minari/mine/three-v0/data" / file
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"mine/three-v0' is (damaged|on this machine but cannot be read)"):
        read("minari:mine/three-v0")


@pytest.mark.parametrize("identity", ["three", "th ree-v0"])
def test_a_malformed_minari_name_is_refused(minari, identity):
    for attempt in (lambda: read(f"minari:{identity}"), lambda: data().save(f"minari:{identity}")):
        with pytest.raises(DataError, match=f"'{identity}' is no Minari name; write it as NAMESPACE/NAME-vNUMBER"):
            attempt()


def test_minari_never_overwrites(minari):
    data().save("minari:mine/three-v0")
    with pytest.raises(DataError, match="'mine/three-v0' exists already; choose another name or version"):
        data(rewards=np.zeros(12)).save("minari:mine/three-v0")
    assert read("minari:mine/three-v0").fingerprint == data().fingerprint


def test_what_minari_cannot_hold_is_refused(minari, tmp_path):
    jumps = data().next_observations.copy()
    jumps[1] += 1
    for changed, sentence in [
        ({"rewards": None}, "'three' has no rewards"),
        ({"next_observations": None}, "'next_observations' is missing; save to d4rl:"),
        ({"next_observations": jumps}, "'next_observations' at row 1 is not the observation of row 2"),
    ]:
        with pytest.raises(DataError, match=sentence):
            data(**changed).save("minari:mine/three-v0")
    assert not (tmp_path / "minari/mine/three-v0").exists()


def test_many_short_episodes_are_too_much_for_minari(minari):
    with pytest.raises(DataError, match=r"1000000 episodes of 1 steps, and Minari takes 15 kB for each, 15 GB in all"):
        check_target("minari:test/short-v0", episodes=1_000_000)
    check_target("minari:test/short-v0", episodes=50_000)
    steps = 60_000
    short = Dataset.from_arrays(
        np.zeros((steps, 1)), np.zeros((steps, 1)), np.zeros(steps), timeouts=np.ones(steps),
        next_observations=np.zeros((steps, 1)),
    )  # fmt: skip
    with pytest.raises(DataError, match="save to d4rl:, or at most 50000 such episodes"):
        short.save("minari:test/short-v0")


def test_without_minari_the_sentence_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "minari":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        DataError, match=re.escape("Minari is not installed; install it with: pip install 'reverie[minari]'")
    ):
        read("minari:mine/three-v0")


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


def test_a_summary_is_plain_enough_for_json():
    assert json.loads(json.dumps(data().summary()))["attributes"]["noise"] == [0.0, 0.1]
