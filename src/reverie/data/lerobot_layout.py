"""Where things are in a LeRobotDataset, in its layouts 2.0, 2.1 (a file an episode) and 3.0 (files of many episodes).

`meta/info.json` names the layout, the features and the files; `meta/episodes.jsonl` (2) or `meta/episodes/*/*.parquet`
(3) list the episodes; `meta/tasks.jsonl` (2) or `meta/tasks.parquet` (3) the tasks' sentences.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reverie.data.schemes import brief, imported
from reverie.errors import DataError

VERSIONS = ("v2.0", "v2.1", "v3.0")


@dataclass(frozen=True)
class Layout:
    """A folder, and what its info.json says."""

    folder: Path
    version: str
    features: Mapping[str, Mapping[str, Any]]
    """By name: `dtype` (of numpy, or "video", "image", "string") and `shape` of one step."""
    info: Mapping[str, Any]

    @property
    def fps(self) -> float:
        return float(self.info["fps"])

    def is_camera(self, key: str) -> bool:
        return self.features[key]["dtype"] in ("video", "image")

    def is_read(self, key: str) -> bool:
        """Whether it is a camera or numbers, and not a text for instance."""
        return self.is_camera(key) or str(self.features[key]["dtype"]).startswith(("float", "int", "uint", "bool"))


class Episode(NamedTuple):
    number: int
    length: int
    data: Path
    videos: Mapping[str, tuple[Path, float]]
    """By feature: the file, and the second in it at which the episode begins."""


def read_layout(folder: str) -> Layout:
    """Raises DataError where the folder holds no info.json, or one that is incomplete or of an unknown layout."""
    place = Path(folder).expanduser()
    path = place / "meta" / "info.json"
    if not path.is_file():
        raise DataError(
            f"There is no LeRobotDataset in {folder!r} (no meta/info.json); give the folder that holds meta."
        )
    info = _json(path, path.read_text())
    version = str(info.get("codebase_version"))
    if version not in VERSIONS:
        raise DataError(
            f"{folder!r} has the layout {version!r}, and those known here are {', '.join(VERSIONS)}; convert it by "
            "LeRobot's own scripts."
        )
    missing = [key for key in ("features", "fps", "data_path") if not info.get(key)]
    if missing:
        raise DataError(f"{str(path)!r} lacks {', '.join(map(repr, missing))}; download it again.")
    for key, feature in info["features"].items():
        if not isinstance(feature, dict) or not {"dtype", "shape"} <= set(feature):
            raise DataError(f"The feature {key!r} in {str(path)!r} has no dtype or no shape; add both.")
    return Layout(place, version, info["features"], info)


def read_episodes(layout: Layout, cameras: list[str]) -> list[Episode]:
    """All that are listed, by their numbers, with the files of these videos."""
    if layout.version.startswith("v2"):
        rows = _json_lines(layout.folder / "meta" / "episodes.jsonl")
    else:
        rows = _episode_table(layout.folder, cameras)
    if not rows:
        raise DataError(f"{str(layout.folder)!r} lists no episode; record some first.")
    try:
        episodes = (_episode(layout, row, cameras) for row in rows)
        return sorted((episode for episode in episodes if episode.length), key=lambda episode: episode.number)
    except KeyError as error:
        raise DataError(
            f"The episodes in {str(layout.folder / 'meta')!r} lack {error.args[0]!r}; download the folder again."
        ) from error


def _episode(layout: Layout, row: Mapping[str, Any], cameras: list[str]) -> Episode:
    index = int(row["episode_index"])
    place: dict[str, Any] = {
        "episode_index": index,
        "episode_chunk": index // int(layout.info.get("chunks_size") or 1000),
    }
    data = layout.folder / layout.info["data_path"].format(**place, **_numbers(row, "data"))
    videos = {}
    for key in cameras:
        there = {"video_key": key, **place, **_numbers(row, f"videos/{key}")}
        start = 0.0 if layout.version.startswith("v2") else float(row[f"videos/{key}/from_timestamp"])
        videos[key] = (layout.folder / str(layout.info["video_path"]).format(**there), start)
    return Episode(index, int(row["length"]), data, videos)


def _numbers(row: Mapping[str, Any], key: str) -> dict[str, int]:
    """In the third layout, of the file: its chunk's and its own."""
    found = {name: row.get(f"{key}/{name}") for name in ("chunk_index", "file_index")}
    return {name: int(value) for name, value in found.items() if value is not None}


def _episode_table(folder: Path, cameras: list[str]) -> list[dict[str, Any]]:
    place = folder / "meta" / "episodes"
    kinds = ("chunk_index", "file_index", "from_timestamp")
    wanted = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    wanted += [f"videos/{key}/{kind}" for key in cameras for kind in kinds]
    paths = sorted(place.glob("*/*.parquet"))
    if not paths:
        raise DataError(f"There are no episodes in {str(place)!r}; download the whole folder.")
    return [row for path in paths for row in read_parquet(path, wanted).to_pylist()]


def read_tasks(layout: Layout) -> list[str]:
    """The sentences, by the tasks' numbers; empty where there is no list."""
    lines, table = layout.folder / "meta" / "tasks.jsonl", layout.folder / "meta" / "tasks.parquet"
    if lines.is_file():
        found = {int(row["task_index"]): str(row["task"]) for row in _json_lines(lines)}
    elif table.is_file():
        # A table of pandas: the sentences are its index, which has a name in some files and none in others.
        columns = read_parquet(table).to_pydict()
        numbers = columns.pop("task_index")
        sentences = columns.get("task", next(iter(columns.values()), numbers))
        found = {int(number): str(sentence) for number, sentence in zip(numbers, sentences, strict=True)}
    else:
        return []
    return [found.get(number, "") for number in range(max(found, default=-1) + 1)]


def read_parquet(path: Path, columns: list[str] | None = None) -> Any:
    """A pyarrow Table of these columns, in this order; a column that is not there is left out.

    Raises DataError where the file is missing or damaged.
    """
    parquet = imported("pyarrow.parquet", "lerobot")
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}; download the whole folder.")
    try:
        there = parquet.read_schema(path).names
        return parquet.read_table(path, columns=[name for name in columns or there if name in there])
    except (OSError, ValueError) as error:  # pyarrow's own are of these kinds
        raise DataError(f"{str(path)!r} is no whole parquet file ({brief(error)}); download it again.") from error


def numbers_of(column: Any, what: str) -> np.ndarray:
    """A column of numbers: `[N]`, or of lists of them (nested or not) of one length `[N, d]`, all axes in one."""
    types, rows, column = imported("pyarrow", "lerobot").types, len(column), column.combine_chunks()
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    # What has several axes may be of a type of its own around lists, which some libraries register and others do not.
    while hasattr(column, "storage") or any(is_list(column.type) for is_list in lists):
        column = column.storage if hasattr(column, "storage") else column.flatten()
    array = column.to_numpy(zero_copy_only=False)
    if array.dtype.kind not in "fiub" or (rows and (len(array) == 0 or len(array) % rows)):
        raise DataError(f"{what} holds {column.type} of differing lengths or no numbers; every step must have as many.")
    return array if len(array) == rows else array.reshape(rows, -1)


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{str(path)!r} is no JSON ({brief(error)}); download it again.") from error
    if not isinstance(found, dict):
        raise DataError(f"{str(path)!r} holds no JSON object; download it again.")
    return found


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}; download the whole folder.")
    return [_json(path, line) for line in path.read_text().splitlines() if line.strip()]
