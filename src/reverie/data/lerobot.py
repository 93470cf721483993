"""LeRobotDatasets (Cadene et al. 2026): steps in parquet files, cameras in videos; `lerobot_layout` says where."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reverie.data import dones
from reverie.data.dataset import Dataset
from reverie.data.fields import one_vector
from reverie.data.frames import Frame
from reverie.data.lerobot_layout import Episode, Layout, read_episodes, read_layout, read_tasks
from reverie.data.lerobot_rows import read_frames, read_rows
from reverie.data.schemes import check_memory, named_keys, source_of, told
from reverie.errors import DataError
from reverie.terminal import Progress

LONG = 1000
"""Frames from which on a bar shows how far the reading is."""
_READ_OTHERWISE = ("frame_index", "index", "task_index", "next.reward", "next.done")


def read_lerobot_source(rest: str) -> Dataset:
    """What `rest` of a source names: `FOLDER@keys=NAME,NAME@actions=NAME@image_size=96@episodes=0:50`, `vector`
    for `keys`."""
    folder, options = told("lerobot", rest)
    keys, flat = named_keys(options)
    return read_lerobot(
        folder,
        keys,
        options.get("actions", "action"),
        _size(options["image_size"]) if "image_size" in options else None,
        _range(options["episodes"]) if "episodes" in options else None,
        flat,
    )


def read_lerobot(
    folder: str,
    keys: Sequence[str] | None = None,
    action_key: str = "action",
    image_size: int | tuple[int, int] | None = None,
    episodes: Sequence[int] | None = None,
    flat: bool = False,
    progress: bool = True,
) -> Dataset:
    """The data in a folder of the layout 2.0, 2.1 or 3.0.

    The observations are a dictionary of `keys`: features with or without `observation.` before them, and without it in
    the dictionary (`observation.images.top` becomes `images.top`); all that begin so, except texts, where None.
    Cameras are uint8 `[N, H, W, C]`, brought to `image_size` (height and width, or both in one number) if given; of a
    video each step has the frame that is nearest to its `timestamp`. Everything else is a vector, of one number
    where there is one a step, and of all numbers where there are several axes. With `flat` the vectors are one, in
    the order of `keys`. `episodes` are numbers of episodes.

    Rewards are `next.reward`. `next.done` marks the end of an episode, whatever ended it; `next.success`, or rewards
    of 0 and 1 alone, tell which are terminals: see `dones.ends`. The numbers of `task_index` are the info `"task"`,
    and the sentences the attribute `tasks`. `timestamp` (s), `episode_index`, `next.success` (as `"success"`) and
    all other features of finite numbers are infos by their names.

    Raises DataError for what is missing, damaged or of another layout, for images that are depths or floats or of
    another size than info.json says, a video without frames for all steps, and images that do not fit the memory.
    """
    layout = read_layout(folder)
    chosen = _chosen(layout, folder, keys, action_key)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    cameras = {key: _frame(key, layout.features[key], size) for key in chosen.values() if layout.is_camera(key)}
    videos = [key for key in cameras if layout.features[key]["dtype"] == "video"]
    taken = _taken(read_episodes(layout, videos), folder, episodes)
    steps = sum(episode.length for episode in taken)
    advice = "make them smaller by @image_size=96, or read fewer by @keys=NAME or @episodes=0:50"
    check_memory(folder, steps * sum(int(np.prod(frame.shape)) for frame in cameras.values()), advice)
    images = {key: np.empty((steps, *frame.shape), np.uint8) for key, frame in cameras.items()}
    frames = steps * len(images)
    with Progress(f"Reading {folder}", frames, show=progress and frames > LONG, unit="frames") as bar:
        columns = read_rows(layout, taken, [*chosen.values(), action_key], images, cameras, bar)
        for key in videos:
            read_frames(layout, taken, key, columns.get("timestamp"), images[key], cameras[key], bar)
    columns |= images
    observations = {name: _observation(columns[key], layout.features[key]) for name, key in chosen.items()}
    return Dataset.from_arrays(
        one_vector(observations) if flat else observations,
        _two_axes(columns[action_key]),
        columns.get("next.reward"),
        infos=_infos(columns, {action_key, *chosen.values()}),
        attributes=_about(layout, folder, list(chosen) if flat else keys, action_key, size, episodes, flat),
        **_ends(columns, taken),  # type: ignore[arg-type]
    )


# What is asked for ---------------------------------------------------------------------------------------------------


def _chosen(layout: Layout, folder: str, keys: Sequence[str] | None, action_key: str) -> dict[str, str]:
    """Features by the observations' names."""
    features = layout.features
    listed = ", ".join(features)
    if action_key not in features:
        raise DataError(f"{folder!r} has no actions {action_key!r} (it has {listed}); name them by @actions=NAME.")
    if keys is None:
        found = [key for key in features if key.startswith("observation") and layout.is_read(key)]
    else:
        found = [key if key in features else f"observation.{key}" for key in keys]
    for key in found:
        if key not in features:
            raise DataError(f"{folder!r} has no observation {key.removeprefix('observation.')!r}; it has {listed}.")
        if not layout.is_read(key):
            raise DataError(f"{key!r} in {folder!r} holds {features[key]['dtype']}, neither numbers nor images.")
        kind, shape = str(features[key]["dtype"]), list(features[key]["shape"])
        if not layout.is_camera(key) and len(shape) == 3 and kind != "uint8":
            raise DataError(
                f"{key!r} in {folder!r} holds images of {kind}, {shape}; images must be of 8 bits (video, image or "
                "uint8): leave it out by @keys=NAME,NAME with the others."
            )
    if not found:
        raise DataError(
            f"{folder!r} has no feature called observation (it has {listed}); name some by @keys=NAME,NAME."
        )
    return {key.removeprefix("observation."): key for key in found}


def _frame(key: str, feature: Mapping[str, Any], size: tuple[int, int] | None) -> Frame:
    """Of a camera. Shapes are written with the channels first or last, whatever `names` says."""
    shape = tuple(int(number) for number in feature["shape"])
    about = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    if about.get("is_depth_map") or about.get("video.is_depth_map"):
        raise DataError(f"{key!r} is a camera of depths, not of 8-bit colours; leave it out by @keys=NAME,NAME.")
    names = feature.get("names")
    kinds, first = (1, 3, 4), isinstance(names, list) and str(names[:1]).startswith("['c")
    if len(shape) == 3 and shape[0] in kinds and (first or shape[2] not in kinds):
        shape = (*shape[1:], shape[0])
    if len(shape) != 3 or shape[2] not in kinds or min(shape) < 1:
        raise DataError(
            f"The camera {key!r} has the shape {list(shape)}; height, width and 1, 3 or 4 channels are read."
        )
    return Frame(*shape, size)


def _taken(listed: list[Episode], folder: str, wanted: Sequence[int] | None) -> list[Episode]:
    if wanted is None:
        return listed
    known = {episode.number: episode for episode in listed}
    if missing := [index for index in wanted if index not in known]:
        raise DataError(f"{folder!r} has no episode {missing[0]}; it has {len(known)}, from {listed[0].number} on.")
    if not wanted:
        raise DataError(f"No episode of {folder!r} is asked for; give at least one number.")
    return [known[index] for index in sorted(set(wanted))]


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.split("x") if "x" in text else (text, text))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise DataError(f"'@image_size={text}' is no size; write @image_size=96, or 96x128 (height x width).")
    return height, width


def _range(text: str) -> Sequence[int]:
    try:
        first, colon, after = text.partition(":")
        return range(int(first or 0), int(after)) if colon else [int(each) for each in text.split(",")]
    except ValueError:
        raise DataError(f"'@episodes={text}' names no episodes; write @episodes=0:50, or @episodes=0,3,7.") from None


# What becomes of it --------------------------------------------------------------------------------------------------


def _two_axes(array: np.ndarray) -> np.ndarray:
    return array[:, None] if array.ndim == 1 else array


def _observation(array: np.ndarray, feature: Mapping[str, Any]) -> np.ndarray:
    if array.ndim == 4:
        return array
    if len(feature["shape"]) == 3:
        return array.reshape(len(array), *feature["shape"])
    with np.errstate(over="ignore"):  # what is too large is said by the checks, with its row
        return _two_axes(array).astype(np.float32, copy=False)


def _ends(columns: Mapping[str, np.ndarray], taken: list[Episode]) -> dict[str, np.ndarray]:
    lengths = [episode.length for episode in taken]
    last = np.zeros(sum(lengths), bool)
    last[np.cumsum(lengths) - 1] = True
    success = columns["next.success"].astype(bool) if "next.success" in columns else None
    done = columns["next.done"].astype(bool) if "next.done" in columns else None
    if done is None and success is not None:
        done = success & last
    return dones.ends(done, last, dones.successes(columns.get("next.reward")) if success is None else success)


def _infos(columns: Mapping[str, np.ndarray], others: set[str]) -> dict[str, np.ndarray]:
    found = {key: array for key, array in columns.items() if key not in others and key not in _READ_OTHERWISE}
    infos = {key.removeprefix("next."): array for key, array in found.items() if np.isfinite(array).all()}
    return infos | ({"task": columns["task_index"].astype(np.int32)} if "task_index" in columns else {})


def _about(
    layout: Layout,
    folder: str,
    keys: Sequence[str] | None,
    action_key: str,
    size: tuple[int, int] | None,
    episodes: Sequence[int] | None,
    flat: bool,
) -> dict[str, Any]:
    named = f"{episodes.start}:{episodes.stop}" if isinstance(episodes, range) and episodes.step == 1 else episodes
    options = {
        "vector" if flat else "keys": keys,
        "actions": None if action_key == "action" else action_key,
        "image_size": size and "x".join(map(str, size)),
        "episodes": named,
    }
    robot, tasks = layout.info.get("robot_type"), read_tasks(layout)
    return {
        "name": layout.folder.resolve().name,
        "fps": layout.fps,
        **({"robot": str(robot)} if robot else {}),
        **({"tasks": tasks} if tasks else {}),
        "source": source_of("lerobot", folder, options),
    }
