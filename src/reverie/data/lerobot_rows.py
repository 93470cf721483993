"""The steps of a LeRobotDataset: columns out of its parquet files, frames out of these and out of its videos."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.frames import Frame, read_image, read_video
from reverie.data.lerobot_layout import Episode, Layout, numbers_of, read_parquet
from reverie.data.schemes import imported
from reverie.errors import DataError
from reverie.terminal import Progress


def read_rows(
    layout: Layout,
    taken: list[Episode],
    needed: list[str],
    images: Mapping[str, np.ndarray],
    cameras: Mapping[str, Frame],
    bar: Progress,
) -> dict[str, np.ndarray]:
    """The columns of numbers by name, and into `images` what the files hold of images."""
    numbers = [key for key in layout.features if layout.is_read(key) and not layout.is_camera(key)]
    wanted = [key for key in numbers if key in needed or not key.startswith("observation")]
    wanted += [key for key in images if layout.features[key]["dtype"] == "image"]
    wanted += [key for key in ("episode_index", "timestamp", "task_index") if key not in wanted]
    parts: dict[str, list[np.ndarray]] = {}
    start = 0
    for path, group in groupby(taken, key=lambda episode: episode.data):
        table = _rows_of(read_parquet(path, wanted), list(group), path)
        for key in needed:
            if key not in table.column_names and layout.features[key]["dtype"] != "video":
                raise DataError(f"{str(path)!r} lacks {key!r}; it has {', '.join(table.column_names)}.")
        for key in table.column_names:
            if key in images:
                for row, encoded in enumerate(_encoded(table.column(key), key, layout.folder)):
                    what = f"{key!r} in row {row} of {str(path)!r}"
                    images[key][start + row] = read_image(encoded, what, cameras[key])
                    bar.more(1)
            else:
                parts.setdefault(key, []).append(numbers_of(table.column(key), f"{key!r} in {str(path)!r}"))
        start += len(table)
    return {key: np.concatenate(arrays) for key, arrays in parts.items() if sum(map(len, arrays)) == start}


def _rows_of(table: Any, group: list[Episode], path: Path) -> Any:
    """The rows of these episodes. Raises DataError where there are others than the list of episodes says."""
    if "episode_index" not in table.column_names:
        raise DataError(f"{str(path)!r} lacks 'episode_index'; it has {', '.join(table.column_names)}.")
    indices, lengths = [episode.number for episode in group], [episode.length for episode in group]
    there = table.column("episode_index").to_numpy()
    kept = np.isin(there, indices)
    if not kept.all():
        table, there = table.filter(imported("pyarrow", "lerobot").array(kept)), there[kept]
    if not np.array_equal(there, np.repeat(indices, lengths)):
        wrong = next((e for e in group if (there == e.number).sum() != e.length), group[0])
        raise DataError(
            f"{str(path)!r} has {(there == wrong.number).sum()} rows of episode {wrong.number} where the list of "
            f"episodes says {wrong.length}, one episode after another; download the folder again."
        )
    return table


def _encoded(column: Any, key: str, folder: Path) -> Iterator[bytes]:
    """Image files: within the table, or beside it."""
    for item in column:
        image = item.as_py()
        image = {"bytes": image} if isinstance(image, bytes) else image or {}
        if image.get("bytes"):
            yield image["bytes"]
            continue
        path = folder / str(image.get("path"))
        if not path.is_file():
            raise DataError(f"{key!r} has no image in its table, and {str(path)!r} is no file; download it again.")
        yield path.read_bytes()


def read_frames(
    layout: Layout,
    taken: list[Episode],
    key: str,
    timestamps: np.ndarray | None,
    into: np.ndarray,
    frame: Frame,
    bar: Progress,
) -> None:
    """One camera's frames, file by file and each file in its order."""
    files: dict[Path, list[tuple[np.ndarray, np.ndarray]]] = {}
    stops = np.cumsum([episode.length for episode in taken])
    for episode, stop in zip(taken, stops, strict=True):
        rows = np.arange(stop - episode.length, stop)
        path, start = episode.videos[key]
        times = np.arange(episode.length) / layout.fps if timestamps is None else timestamps[rows].astype(np.float64)
        files.setdefault(path, []).append((rows, start + times))
    for path, given in files.items():
        rows, seconds = (np.concatenate(each) for each in zip(*given, strict=True))
        order = np.argsort(seconds, kind="stable")

        def put(i: int, image: np.ndarray, places: np.ndarray = rows[order]) -> None:
            into[places[i]] = image
            bar.more(1)

        if len(order):
            read_video(path, seconds[order], layout.fps, frame, put)
