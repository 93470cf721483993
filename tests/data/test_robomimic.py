"""robomimic's layout: every array against those that were written, and the sentences for what does not fit."""

import json
import re

import h5py
import numpy as np
import pytest
from data_sets import assert_same, write_hdf5

from reverie.data.readers import read
from reverie.data.robomimic import read_robomimic
from reverie.errors import DataError

LENGTHS = {"demo_0": 3, "demo_2": 4, "demo_10": 2}
"""In the order in which they are read, which is not the files' own (by letters)."""


def trajectory(number, steps):
    draw = np.random.default_rng(number)
    pictures = draw.integers(0, 256, (steps + 1, 6, 5, 3), dtype=np.uint8)
    state, gripper = draw.normal(size=(steps + 1, 4)), draw.normal(size=steps + 1)
    return {
        "actions": draw.uniform(-1, 1, (steps, 2)),
        "actions_abs": draw.normal(size=(steps, 3)),
        "rewards": (np.arange(steps) == steps - 1).astype(float) * (number != 2),
        "dones": (np.arange(steps) == steps - 1).astype(np.int64),
        "states": draw.normal(size=(steps, 7)),
        "obs/agentview_image": pictures[:-1],
        "obs/eef_pos": state[:-1],
        "obs/gripper": gripper[:-1],
        "next_obs/agentview_image": pictures[1:],
        "next_obs/eef_pos": state[1:],
        "next_obs/gripper": gripper[1:],
    }


DEMOS = {name: trajectory(int(name[5:]), steps) for name, steps in LENGTHS.items()}


def write(path, changed=None, without=(), masks=None):
    """`changed` are arrays by their paths under `data`; what begins with one of `without` is left out."""
    items = {f"{name}/{key}": array for name, demo in DEMOS.items() for key, array in demo.items()} | (changed or {})
    with h5py.File(path, "w") as file:
        for key, array in items.items():
            if not any(re.match(each, key) for each in without):
                file[f"data/{key}"] = array
        for key, names in (masks or {}).items():
            file[f"mask/{key}"] = np.array(names, dtype="S8")
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
        file["data"].attrs["total"] = sum(LENGTHS.values())
    return f"robomimic:{path}"


def joined(key, names=tuple(LENGTHS)):
    return np.concatenate([DEMOS[name][key] for name in names])


def test_every_array_comes_back_in_the_trajectories_order(tmp_path):
    source = write(tmp_path / "lift.hdf5")
    data = read(source)
    assert list(data.observations) == ["agentview_image", "eef_pos", "gripper"]
    np.testing.assert_array_equal(data.observations["agentview_image"], joined("obs/agentview_image"))
    assert data.observations["agentview_image"].dtype == np.uint8
    np.testing.assert_array_equal(data.observations["eef_pos"], joined("obs/eef_pos").astype(np.float32))
    np.testing.assert_array_equal(data.observations["gripper"][:, 0], joined("obs/gripper").astype(np.float32))
    np.testing.assert_array_equal(data.actions, joined("actions").astype(np.float32))
    np.testing.assert_array_equal(data.rewards, joined("rewards"))
    np.testing.assert_array_equal(data.infos["states"], joined("states").astype(np.float32))
    np.testing.assert_array_equal(data.episodes, [[0, 3], [3, 7], [7, 9]])
    assert data.attributes == {"name": "lift", "environment": "Lift", "source": source}
    assert data.next_observations is None, "images are not read twice"


def test_a_done_is_a_terminal_where_the_reward_tells_of_success_and_a_cut_elsewhere(tmp_path):
    data = read(write(tmp_path / "x.hdf5"))
    assert data.terminals_known and data.ends is None
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [2, 8])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [6])


def test_a_success_within_a_trajectory_is_a_terminal_that_does_not_end_it(tmp_path):
    success = np.array([0, 1, 1.0])
    data = read(write(tmp_path / "x.hdf5", {"demo_0/rewards": success, "demo_0/dones": success}))
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [1, 2, 8])
    np.testing.assert_array_equal(data.episodes, [[0, 3], [3, 7], [7, 9]])


def test_without_dones_all_ends_are_cuts_and_terminals_unknown(tmp_path):
    data = read(write(tmp_path / "x.hdf5", without=[r".*/dones", r".*/rewards"]))
    assert not data.terminals_known and data.rewards is None
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [2, 6, 8])


def test_chosen_keys_filters_and_actions_are_read_again_from_the_recorded_source(tmp_path):
    asked = write(tmp_path / "x.hdf5", masks={"train": ["demo_10", "demo_0"], "valid": ["demo_2"]})
    source = f"{asked}@keys=gripper,eef_pos@filter=train@actions=actions_abs"
    data = read(source)
    names = ("demo_0", "demo_10")
    assert list(data.observations) == ["eef_pos", "gripper"]
    np.testing.assert_array_equal(data.observations["eef_pos"], joined("obs/eef_pos", names).astype(np.float32))
    np.testing.assert_array_equal(data.next_observations["eef_pos"], np.float32(joined("next_obs/eef_pos", names)))
    np.testing.assert_array_equal(data.actions, joined("actions_abs", names).astype(np.float32))
    assert data.attributes["source"] == source
    assert_same(read(data.attributes["source"]), data)
    assert_same(read_robomimic(str(tmp_path / "x.hdf5"), ["gripper", "eef_pos"], "train", "actions_abs"), data)


def test_one_low_dimensional_key_is_still_a_dictionary(tmp_path):
    assert list(read(write(tmp_path / "x.hdf5") + "@keys=eef_pos").observations) == ["eef_pos"]


def test_a_vector_of_several_keys_in_the_order_in_which_they_are_named(tmp_path):
    source = write(tmp_path / "x.hdf5") + "@vector=gripper,eef_pos"
    data = read(source)
    expected = np.concatenate([joined("obs/gripper")[:, None], joined("obs/eef_pos")], axis=1).astype(np.float32)
    np.testing.assert_array_equal(data.observations, expected)
    np.testing.assert_array_equal(data.next_observations[:, 0], np.float32(joined("next_obs/gripper")))
    assert data.attributes["source"] == source
    assert_same(read_robomimic(str(tmp_path / "x.hdf5"), ["gripper", "eef_pos"], flat=True), data)
    blind = write(tmp_path / "y.hdf5", without=[".*/agentview_image"])
    assert read_robomimic(str(tmp_path / "y.hdf5"), flat=True).attributes["source"] == f"{blind}@vector=eef_pos,gripper"


def test_selections_come_after_and_several_files_are_joined(tmp_path):
    source = write(tmp_path / "x.hdf5") + "@keys=eef_pos"
    assert len(read(f"{source}@every=2")) == 5
    assert read(f"{source}@every=2").attributes["source"] == f"{source}@every=2"
    assert len(read(f"{source}+{source}@best=0.5")) == 9 + 5
    sentence = "'@every=2' is asked of what is read; write it after '@filter=train@actions=actions'."
    with pytest.raises(DataError, match=re.escape(sentence)):
        read(f"{source}@every=2@filter=train@actions=actions")


def test_matrices_are_vectors_and_states_of_differing_lengths_are_left_out(tmp_path):
    poses = {f"{name}/obs/pose": np.arange(16.0 * steps).reshape(steps, 4, 4) for name, steps in LENGTHS.items()}
    data = read(write(tmp_path / "x.hdf5", poses | {"demo_2/states": np.zeros((4, 9))}))
    np.testing.assert_array_equal(data.observations["pose"][3:7], np.arange(64.0).reshape(4, 16))
    assert "states" not in data.infos
    for name, shape in (("none", lambda steps: (0,)), ("empty", lambda steps: (steps, 0))):
        empty = {f"{demo}/states": np.zeros(shape(steps)) for demo, steps in LENGTHS.items()}
        assert "states" not in read(write(tmp_path / f"{name}.hdf5", empty)).infos


def test_trajectories_without_a_step_are_passed_over(tmp_path):
    nothing = {"demo_1/actions": np.zeros((0, 2))}
    assert_same(read(write(tmp_path / "x.hdf5", nothing)), read(write(tmp_path / "y.hdf5")))
    with pytest.raises(DataError, match="holds no step; give a file with at least one trajectory"):
        read(write(tmp_path / "z.hdf5", nothing, without=["demo_(0|2|10)"]))


DEPTH = {f"{name}/obs/depth": np.zeros((steps, 6, 5, 1), np.float32) for name, steps in LENGTHS.items()}
FIRST = {f"{name}/obs/front": np.zeros((steps, 3, 6, 5), np.uint8) for name, steps in LENGTHS.items()}
WRONG = {
    "a key": ("@keys=eef_quat", {}, "has no observation 'eef_quat'; it has agentview_image, eef_pos, gripper."),
    "a filter": ("@filter=test", {}, "has no filter 'test'; it has train."),
    "a filter's trajectory": ("@filter=train", {}, "lists 'demo_7', which is not in 'data'"),
    "actions": ("@actions=a", {}, "lacks 'data/demo_0/a' (it has actions, actions_abs"),
    "an image": ("@vector=eef_pos,agentview_image", {}, "'agentview_image' holds images [6, 5, 3], which are no part"),
    "a key twice": ("@vector=eef_pos@keys=eef_pos", {}, "'@keys=eef_pos' and '@vector=eef_pos' exclude each other"),
    "an option": ("@key=eef_pos", {}, "'@key=eef_pos' selects nothing; write @best=0.1"),
    "float images": ("", DEPTH, "'obs/depth' in 'FILE' holds images of float32, [6, 5, 1]; images must be uint8"),
    "channels first": ("", FIRST, "numpy.moveaxis(x, 1, -1) brings them there"),
    "rows": (
        "",
        {"demo_2/obs/eef_pos": np.zeros((3, 4))},
        "'data/demo_2/obs/eef_pos' in 'FILE' has shape (3, 4) where",
    ),
    "a shape": ("", {"demo_2/obs/eef_pos": np.zeros((4, 5))}, "rows of shape [5] where those of the first trajectory"),
    "a value": ("", {"demo_2/obs/eef_pos": np.full((4, 4), np.nan)}, "'observations/eef_pos' holds nan at row 3"),
}


@pytest.mark.parametrize("asked, changed, sentence", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_said_in_one_sentence_that_names_the_file(tmp_path, asked, changed, sentence):
    path = tmp_path / "x.hdf5"
    source = write(path, changed, masks={"train": ["demo_0", "demo_7"]})
    with pytest.raises(DataError, match=re.escape(sentence.replace("FILE", str(path)))) as caught:
        read(source + asked)
    assert str(caught.value).count("x.hdf5") == (0 if "selects" in sentence else 1)


def test_a_key_that_one_trajectory_lacks_is_named(tmp_path):
    with pytest.raises(DataError, match="lacks 'data/demo_10/obs/gripper'; every trajectory must have"):
        read(write(tmp_path / "x.hdf5", without=["demo_10/obs/gripper"]))


def test_a_raw_file_and_a_foreign_one_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"holds no observations \(no 'data/demo_0/obs'\): a raw file"):
        read(write(tmp_path / "x.hdf5", without=[".*obs/"]))
    write_hdf5(tmp_path / "y.hdf5", observations=np.zeros((4, 2)), actions=np.zeros((4, 1)))
    with pytest.raises(DataError, match=re.escape("and so on (it has actions, observations); is it robomimic's?")):
        read(f"robomimic:{tmp_path}/y.hdf5")
    with pytest.raises(DataError, match=r"There is no file '.*z\.hdf5'; check the path"):
        read(f"robomimic:{tmp_path}/z.hdf5")


def test_images_beyond_the_memory_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 800}[name])
    with pytest.raises(DataError, match=r"would take 8.1e-07 GB of memory, of 8e-07; read fewer by @keys=NAME"):
        read(write(tmp_path / "x.hdf5"))
    assert len(read(write(tmp_path / "x.hdf5") + "@keys=eef_pos")) == 9
