"""LeRobotDatasets in every layout: all arrays against those that were written, and the sentences for what is wrong."""

import re
import sys

import numpy as np
import pytest
from data_sets import assert_same
from recorded import (
    FPS,
    LENGTHS,
    SIZE,
    STEPS,
    TASKS,
    TOP,
    VERSIONS,
    WRIST,
    columns,
    encoded,
    pictures,
    write,
    write_table,
    write_video,
)

from reverie.cli import main
from reverie.data.lerobot import read_lerobot
from reverie.data.readers import read
from reverie.data.spec import Spec
from reverie.data.windows import windows
from reverie.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One that no test changes."""
    made = tmp_path_factory.mktemp("recorded") / "pushes"
    write(made)
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_every_array_comes_back(tmp_path, version):
    source, written = write(tmp_path / "pushes", version), columns()
    data = read(source)
    assert list(data.observations) == ["gripper", "image", "images.top", "state"]
    np.testing.assert_array_equal(data.observations["images.top"], pictures(1))
    np.testing.assert_array_equal(data.observations["image"], pictures(2))
    np.testing.assert_array_equal(data.observations["state"], written["observation.state"])
    np.testing.assert_array_equal(data.observations["gripper"][:, 0], written["observation.gripper"])
    np.testing.assert_array_equal(data.actions, written["action"])
    np.testing.assert_array_equal(data.rewards, written["next.reward"])
    assert set(data.infos) == {"success", "timestamp", "episode_index", "task"}
    np.testing.assert_array_equal(data.infos["success"], written["next.success"])
    np.testing.assert_array_equal(data.infos["timestamp"], written["timestamp"])
    np.testing.assert_array_equal(data.infos["task"], written["task_index"])
    assert data.infos["task"].dtype == np.int32
    assert data.attributes == {"name": "pushes", "fps": FPS, "robot": "so100", "tasks": TASKS, "source": source}


def test_the_layouts_are_read_alike(tmp_path, folder):
    write(tmp_path / "old", "v2.1")
    assert_same(read(f"lerobot:{tmp_path}/old"), read(f"lerobot:{folder}"))


def test_a_done_is_a_terminal_where_success_says_so_and_a_cut_elsewhere(folder):
    data = read(f"lerobot:{folder}@keys=state")
    np.testing.assert_array_equal(data.episodes, [[0, 5], [5, 8], [8, 12]])
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [4, 7])
    np.testing.assert_array_equal(np.flatnonzero(data.timeouts), [11])


@pytest.mark.parametrize(
    "without, terminals", [(("next.success",), []), (("next.done",), [4, 7]), (("next.done", "next.success"), None)]
)
def test_the_ends_where_less_is_known(tmp_path, without, terminals):
    write(tmp_path / "x", features=dict.fromkeys(without))
    data = read(f"lerobot:{tmp_path}/x@keys=state")
    assert data.terminals_known == (terminals is not None)
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), terminals or [])
    np.testing.assert_array_equal(np.flatnonzero(data.last), [4, 7, 11])


@pytest.mark.parametrize("before, name", [({"kind": np.array(["a", "b"])}, "task"), ({}, "__index_level_0__")])
def test_the_tasks_sentences_whatever_their_column_is_called(tmp_path, before, name):
    write(tmp_path / "x")
    table = {**before, name: np.array(TASKS[::-1]), "task_index": np.array([2, 0])}
    write_table(tmp_path / "x/meta/tasks.parquet", table)
    assert read(f"lerobot:{tmp_path}/x@keys=state").attributes["tasks"] == [TASKS[0], "", TASKS[1]]


def test_windows_know_the_task(folder):
    data = read(f"lerobot:{folder}@keys=state")
    batch = windows(data, Spec.fit(data), 2, columns=("observations", "task")).take(np.array([0, 4, 6]))
    np.testing.assert_array_equal(batch["task"], [0, 1, 0])


def test_sets_are_joined_where_their_tasks_are_the_same(tmp_path, folder):
    write(tmp_path / "x")
    joined = read(f"lerobot:{folder}@keys=state+lerobot:{tmp_path}/x@keys=state")
    assert len(joined) == 2 * STEPS and joined.attributes["tasks"] == TASKS
    write_table(tmp_path / "x/meta/tasks.parquet", {"task": np.array(["Wait.", "Push."]), "task_index": np.arange(2)})
    with pytest.raises(
        DataError, match=r"The tasks of 'pushes' are \['Push the .* and those of 'x' \['Wait.', 'Push.'\]"
    ):
        read(f"lerobot:{folder}@keys=state+lerobot:{tmp_path}/x@keys=state")


def test_what_is_asked_for_is_read_again_from_the_recorded_source(folder):
    source = f"lerobot:{folder}@keys=images.top,observation.state@image_size=4x6@episodes=1:3"
    data = read(source)
    rows = slice(LENGTHS[0], None)
    assert {name: x.shape for name, x in data.observations.items()} == {"images.top": (7, 4, 6, 3), "state": (7, 3)}
    np.testing.assert_array_equal(data.observations["state"], columns()["observation.state"][rows])
    assert data.attributes["source"] == source
    assert_same(read(data.attributes["source"]), data)
    given = read_lerobot(str(folder), ["images.top", "state"], image_size=(4, 6), episodes=[2, 1], progress=False)
    assert_same(given, data)
    assert given.attributes["source"] == f"lerobot:{folder}@keys=images.top,state@image_size=4x6@episodes=2,1"


def test_a_vector_of_several_keys_in_the_order_in_which_they_are_named(folder):
    source = f"lerobot:{folder}@vector=state,gripper"
    data = read(source)
    np.testing.assert_array_equal(data.observations[:, :3], columns()["observation.state"])
    np.testing.assert_array_equal(data.observations[:, 3], columns()["observation.gripper"])
    assert data.attributes["source"] == source


def test_without_cameras_all_vectors_can_be_one(tmp_path):
    write(tmp_path / "x", features=dict.fromkeys([TOP, WRIST]))
    data = read_lerobot(str(tmp_path / "x"), flat=True)
    assert data.observation_dim == 4
    assert data.attributes["source"] == f"lerobot:{tmp_path}/x@vector=state,gripper"


def test_a_part_of_the_episodes_has_its_own_frames(folder):
    data = read(f"lerobot:{folder}@episodes=0,2")
    rows = np.r_[0:5, 8:12]
    np.testing.assert_array_equal(data.observations["images.top"], pictures(1)[rows])
    np.testing.assert_array_equal(data.observations["image"], pictures(2)[rows])
    np.testing.assert_array_equal(data.infos["episode_index"], [0] * 5 + [2] * 4)


def test_a_usual_codec_gives_the_frames_of_the_right_steps(tmp_path):
    write(tmp_path / "x", "v2.1")
    grey = np.full((LENGTHS[0], *SIZE, 3), 0, np.uint8) + np.arange(0, 250, 50, dtype=np.uint8)[:, None, None, None]
    write_video(tmp_path / f"x/videos/chunk-000/{TOP}/episode_000000.mp4", grey, lossless=False)
    seen = read(f"lerobot:{tmp_path}/x@episodes=0:1").observations["images.top"]
    # Frames are 50 apart, and a constant one loses a few units by the narrower range of its colours.
    assert np.abs(seen.astype(int) - grey).max() <= 5


def test_a_feature_of_another_name_is_taken_where_it_is_named(tmp_path):
    table = {"actions": columns()["action"], "state": columns()["observation.state"]}
    write(tmp_path / "x", table=table, features={"action": None})
    with pytest.raises(DataError, match=r"has no actions 'action' \(it has .*actions.*\); name them by @actions=NAME"):
        read(f"lerobot:{tmp_path}/x")
    data = read(f"lerobot:{tmp_path}/x@actions=actions@keys=state")
    np.testing.assert_array_equal(data.actions, columns()["action"])
    assert list(data.observations) == ["state"]


def test_infos_that_are_not_finite_are_left_out(tmp_path):
    write(tmp_path / "x", table={"effort": np.full(STEPS, np.nan), "force": np.arange(STEPS)})
    data = read(f"lerobot:{tmp_path}/x@keys=state")
    assert "effort" not in data.infos
    np.testing.assert_array_equal(data.infos["force"], np.arange(STEPS))


def test_several_axes_become_one_and_8_bits_of_three_are_an_image(tmp_path):
    poses, seen = np.arange(4.0 * STEPS).reshape(STEPS, 2, 2), pictures(4)
    write(tmp_path / "x", table={"observation.pose": poses, "observation.seen": seen})
    data = read(f"lerobot:{tmp_path}/x@keys=pose,seen")
    np.testing.assert_array_equal(data.observations["pose"], poses.reshape(STEPS, 4))
    np.testing.assert_array_equal(data.observations["seen"], seen)


def test_images_beside_the_table_are_read(tmp_path):
    paths = [f"images/{number}.png" for number in range(STEPS)]
    (tmp_path / "x/images").mkdir(parents=True)
    for path, frame in zip(paths, pictures(3), strict=True):
        (tmp_path / "x" / path).write_bytes(encoded(frame)["bytes"])
    write(tmp_path / "x", table={WRIST: np.array([{"bytes": None, "path": path} for path in paths])})
    np.testing.assert_array_equal(read(f"lerobot:{tmp_path}/x@keys=image").observations["image"], pictures(3))


def test_info_at_the_command_line(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))
    main(["data", "info", f"lerobot:{folder}@image_size=8", "--out", str(tmp_path / "x.png")])
    shown = capsys.readouterr().out
    assert "images uint8 [8, 8, 3]" in shown and "Push the block." in shown
    assert (tmp_path / "x.png").stat().st_size > 1000


# What is wrong


def test_long_work_is_shown(folder, monkeypatch, capsys):
    monkeypatch.setattr("reverie.data.lerobot.LONG", 2 * STEPS - 1)
    read(f"lerobot:{folder}")
    assert f"{2 * STEPS}/{2 * STEPS} frames" in capsys.readouterr().err
    read_lerobot(str(folder), progress=False)
    assert not capsys.readouterr().err


def removed(place):
    return lambda folder: (folder / place).unlink()


def written(place, text):
    return lambda folder: (folder / place).write_text(text)


VIDEO = f"videos/chunk-000/{TOP}/episode_000001.mp4"
TABLE = "data/chunk-000/episode_000001.parquet"
WRONG = {
    "no folder": (removed("meta/info.json"), "There is no LeRobotDataset in 'FOLDER' (no meta/info.json)"),
    "no JSON": (written("meta/info.json", "{"), "info.json' is no JSON (JSONDecodeError"),
    "no object": (written("meta/info.json", "[]"), "info.json' holds no JSON object"),
    "no table": (removed(TABLE), f"There is no file 'FOLDER/{TABLE}'; download the whole folder."),
    "a damaged table": (written(TABLE, "PAR1"), f"'FOLDER/{TABLE}' is no whole parquet file (Arrow"),
    "no video": (removed(VIDEO), f"There is no video 'FOLDER/{VIDEO}'; download the whole folder."),
    "a damaged video": (written(VIDEO, "mp4"), f"'FOLDER/{VIDEO}' is no whole video ("),
    "no episodes": (removed("meta/episodes.jsonl"), "There is no file 'FOLDER/meta/episodes.jsonl'"),
    "an empty list": (written("meta/episodes.jsonl", ""), "'FOLDER' lists no episode; record some first."),
    "a short list": (written("meta/episodes.jsonl", '{"episode_index": 0}'), "in 'FOLDER/meta' lack 'length'"),
    "a short video": (
        lambda folder: write_video(folder / VIDEO, pictures(1)[:2]),
        f"'FOLDER/{VIDEO}' has no frame at 0.200 s, and the data have 1 more steps from there on",
    ),
    "a slow video": (
        lambda folder: write_video(folder / VIDEO, pictures(1)[:3], fps=FPS // 2),
        f"'FOLDER/{VIDEO}' has no frame at 0.100 s, and the data have 2 more steps",
    ),
    "another size": (
        lambda folder: write_video(folder / VIDEO, pictures(1)[:3, :8]),
        f"'FOLDER/{VIDEO}' has a frame of 8x24 (height x width) where info.json says 16x24",
    ),
}


@pytest.mark.parametrize("damage, sentence", WRONG.values(), ids=WRONG)
def test_what_is_missing_or_damaged_is_said_in_one_sentence(tmp_path, damage, sentence):
    folder = tmp_path / "x"
    source = write(folder, "v2.1")
    damage(folder)
    with pytest.raises(DataError, match=re.escape(sentence.replace("FOLDER", str(folder)))):
        read(source)


INFO = {
    "a later layout": ({"info": {"codebase_version": "v4.0"}}, "has the layout 'v4.0', and those known here are v2.0"),
    "no layout": ({"info": {"codebase_version": None}}, "has the layout 'None'"),
    "no frequency": ({"info": {"fps": None}}, "info.json' lacks 'fps'"),
    "no shape": ({"features": {"action": {"dtype": "float32"}}}, "The feature 'action' in "),
    "depths": (
        {"features": {TOP: {"dtype": "video", "shape": [*SIZE, 1], "info": {"video.is_depth_map": True}}}},
        f"'{TOP}' is a camera of depths, not of 8-bit colours; leave it out by @keys=NAME,NAME.",
    ),
    "float images": (
        {"features": {"observation.state": {"dtype": "float32", "shape": [*SIZE, 3]}}},
        "'observation.state' in 'FOLDER' holds images of float32, [16, 24, 3]; images must be of 8 bits",
    ),
    "a flat camera": ({"features": {TOP: {"dtype": "video", "shape": SIZE}}}, "has the shape [16, 24]; height, width"),
    "images of another size": (
        {"features": {WRIST: {"dtype": "image", "shape": [8, 24, 3]}}},
        f"'{WRIST}' in row 0 of 'FOLDER/data/chunk-000/file-000.parquet' has a frame of 16x24 (height x width)",
    ),
    "a column": (
        {"features": {"observation.force": {"dtype": "float32", "shape": [2]}}},
        "file-000.parquet' lacks 'observation.force'; it has ",
    ),
    "rows": ({"listed": (5, 4, 4)}, "has 3 rows of episode 1 where the list of episodes says 4"),
    "a value": ({"table": {"action": np.full((STEPS, 2), np.inf)}}, "'actions' holds inf at row 0, column 0"),
    "no observations": (
        {"features": dict.fromkeys([TOP, WRIST, "observation.state", "observation.gripper"])},
        "has no feature called observation (it has action,",
    ),
}


@pytest.mark.parametrize("changed, sentence", INFO.values(), ids=INFO)
def test_what_does_not_fit_is_said_in_one_sentence(tmp_path, changed, sentence):
    source = write(tmp_path / "x", **changed)
    with pytest.raises(DataError, match=re.escape(sentence.replace("FOLDER", str(tmp_path / "x")))):
        read(source)


ASKED = {
    "@keys=images.left": "has no observation 'images.left'; it has observation.state, ",
    "@keys=note": "'note' in ",
    "@image_size=big": "'@image_size=big' is no size; write @image_size=96",
    "@image_size=0": "'@image_size=0' is no size",
    "@episodes=all": "'@episodes=all' names no episodes; write @episodes=0:50",
    "@episodes=1:5": "has no episode 3; it has 3, from 0 on.",
    "@episodes=2:2": "is asked for; give at least one number.",
    "@filter=train": "'@filter=train' selects nothing; write @best=0.1",
}


@pytest.mark.parametrize("asked, sentence", ASKED.items(), ids=ASKED)
def test_what_cannot_be_asked_for_is_said(folder, asked, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        read(f"lerobot:{folder}{asked}")


def test_an_absent_extra_is_named_with_its_command(folder, monkeypatch):
    for module, keys in (("av", "images.top"), ("pyarrow.parquet", "state")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            sentence = f"{module.partition('.')[0]!r} is not installed; install it with: pip install 'reverie[lerobot]'"
            with pytest.raises(DataError, match=re.escape(sentence)):
                read(f"lerobot:{folder}@keys={keys}")


def test_images_beyond_the_memory_are_refused_before_they_are_read(folder, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 5000}[name])
    with pytest.raises(
        DataError, match=r"would take 2.76e-05 GB of memory, of 5e-06; make them smaller by @image_size"
    ):
        read(f"lerobot:{folder}")
    assert len(read(f"lerobot:{folder}@image_size=4")) == STEPS


def test_texts_in_the_attributes_are_kept_in_a_file(folder, tmp_path):
    read(f"lerobot:{folder}@keys=state").save(f"d4rl:{tmp_path}/x.hdf5")
    assert read(f"d4rl:{tmp_path}/x.hdf5").attributes["tasks"] == TASKS
