"""What is written is whole or not there, and what a format cannot hold is refused before anything is written."""

import h5py
import numpy as np
import pytest
from data_sets import camera, three_episodes

from reverie.data import Dataset
from reverie.data.readers import read
from reverie.data.writers import check_target
from reverie.errors import DataError


@pytest.fixture
def minari(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return pytest.importorskip("minari")


def test_saving_replaces_the_file_and_leaves_nothing_else(tmp_path):
    target = f"d4rl:{tmp_path}/x.hdf5"
    three_episodes().save(target)
    three_episodes(rewards=None).save(target)
    assert read(target).rewards is None
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]


def test_a_failed_save_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    target = f"d4rl:{tmp_path}/x.hdf5"
    three_episodes().save(target)

    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(DataError, match=r"x.hdf5' cannot be written \(no space left\)"):
        three_episodes(rewards=None).save(target)
    monkeypatch.undo()
    assert read(target).fingerprint == three_episodes().fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["x.hdf5"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/x.hdf5' cannot be written \(.*\); choose another place"):
        three_episodes().save(f"d4rl:{tmp_path}/file/x.hdf5")


def test_an_unknown_target_gets_the_list_of_what_can_be_written():
    with pytest.raises(DataError, match=r"'rlds:x' names no known kind .*'ogbench:PATH.npz'"):
        three_episodes().save("rlds:x")


def test_minari_never_overwrites(minari):
    three_episodes().save("minari:mine/three-v0")
    with pytest.raises(DataError, match="'mine/three-v0' exists already; choose another name or version"):
        three_episodes(rewards=np.zeros(12)).save("minari:mine/three-v0")
    with pytest.raises(DataError, match="'mine/three-v0' exists already"):
        check_target("minari:mine/three-v0")  # before long work
    with pytest.raises(DataError, match="'three' is no Minari name"):
        check_target("minari:three")
    assert read("minari:mine/three-v0").fingerprint == three_episodes().fingerprint


def test_what_minari_cannot_hold_is_refused(minari, tmp_path):
    jumps = three_episodes().next_observations.copy()
    jumps[1] += 1
    for changed, sentence in [
        ({"rewards": None}, "'three' has no rewards"),
        ({"next_observations": None}, "'next_observations' is missing; save to d4rl:"),
        ({"next_observations": jumps}, "'next_observations' at row 1 is not the observation of row 2"),
    ]:
        with pytest.raises(DataError, match=sentence):
            three_episodes(**changed).save("minari:mine/three-v0")
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


def test_what_would_be_read_as_a_goal_environments_is_refused(minari, tmp_path):
    parts = {name: np.zeros((5, 2)) for name in ("observation", "desired_goal")}
    with pytest.raises(
        DataError, match=r"read as a goal environment's, .* named desired_goal, observation; save to d4"
    ):
        camera(observations=parts, next_observations=parts).save("minari:mine/goal-v0")
    assert not (tmp_path / "minari/mine").exists()


def test_a_dictionary_whose_successors_jump_is_refused_by_minari(minari):
    jumps = {name: part.copy() for name, part in camera().next_observations.items()}
    jumps["front"][1, 0, 0, 0] ^= 1
    with pytest.raises(DataError, match="'next_observations' at row 1 is not the observation of row 2"):
        camera(next_observations=jumps).save("minari:mine/camera-v0")


def test_d4rl_has_a_group_for_a_dictionary(tmp_path):
    camera().save(f"d4rl:{tmp_path}/camera.hdf5")
    with h5py.File(tmp_path / "camera.hdf5") as file:
        assert {name: part.dtype for name, part in file["observations"].items()} == {
            "front": np.uint8, "sentence": np.int32, "state": np.float32,
        }  # fmt: skip
        np.testing.assert_array_equal(file["costs"], [0, 1, 0, 0, 2.5])
