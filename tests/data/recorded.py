"""Small LeRobotDatasets, written by hand in each of their layouts."""

import json
from io import BytesIO

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LENGTHS = (5, 3, 4)
STEPS = sum(LENGTHS)
FPS = 10
TASKS = ["Push the block.", "Lift the block."]
VERSIONS = ("v2.0", "v2.1", "v3.0")
TOP, WRIST = "observation.images.top", "observation.image"
SIZE = (16, 24)


def pictures(seed):
    """uint8 `[N, H, W, 3]`."""
    return np.random.default_rng(seed).integers(0, 256, (STEPS, *SIZE, 3), dtype=np.uint8)


def columns():
    """All but the cameras', by their names: `[N]` or `[N, d]`."""
    draw = np.random.default_rng(0)
    starts = np.repeat(np.cumsum(LENGTHS) - LENGTHS, LENGTHS)
    frame = np.arange(STEPS) - starts
    last = np.cumsum(LENGTHS) - 1
    return {
        "observation.state": draw.normal(size=(STEPS, 3)).astype(np.float32),
        "observation.gripper": draw.normal(size=STEPS).astype(np.float32),
        "action": draw.normal(size=(STEPS, 2)).astype(np.float32),
        "next.reward": draw.uniform(size=STEPS).astype(np.float32),
        "next.done": np.isin(np.arange(STEPS), last),
        "next.success": np.isin(np.arange(STEPS), last[:2]),
        "timestamp": (frame / FPS).astype(np.float32),
        "frame_index": frame,
        "episode_index": np.repeat(np.arange(len(LENGTHS)), LENGTHS),
        "index": np.arange(STEPS),
        "task_index": np.repeat([0, 1, 0], LENGTHS),
    }


def write_video(path, frames, fps=FPS, lossless=True):
    """Without loss in libx264's RGB, else as cameras' videos mostly are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = ("libx264rgb", "rgb24", {"qp": "0", "g": "12"}) if lossless else ("libx264", "yuv420p", {"crf": "18"})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind[0], rate=fps, options=kind[2])
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], kind[1]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def encoded(frame):
    stream = BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def write_table(path, table, rows=slice(None)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({key: column(np.asarray(value)[rows]) for key, value in table.items()}), path)


def column(values):
    """Lists for two axes, a type of its own for more."""
    if values.ndim > 2:
        return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
    return pa.array(list(values) if values.ndim == 2 else values)


def write(folder, version="v3.0", table=None, info=None, features=None, lossless=True, listed=LENGTHS):
    """`table`, `info` and `features` change what is written; a feature that is None is left out of info.json.

    The camera TOP is a video, of the first two episodes and of the third in the third layout; WRIST is of PNG files.
    """
    images = {WRIST: np.array([encoded(frame) for frame in pictures(2)]), "note": np.array(["fine"] * STEPS)}
    table = columns() | images | (table or {})
    described = {key: {"dtype": str(x.dtype), "shape": list(x.shape[1:]) or [1]} for key, x in table.items()}
    described |= {
        TOP: {"dtype": "video", "shape": [3, *SIZE], "names": ["channels", "height", "width"]},
        WRIST: {"dtype": "image", "shape": [*SIZE, 3], "names": ["height", "width", "channel"]},
        "note": {"dtype": "string", "shape": [1]},
    }
    described = {key: each for key, each in (described | (features or {})).items() if each is not None}
    spans = [slice(stop - length, stop) for length, stop in zip(LENGTHS, np.cumsum(LENGTHS), strict=True)]
    (third if version == "v3.0" else second)(folder, table, spans, listed, lossless)
    templates = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    if version != "v3.0":
        templates = {
            "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
            "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        }
    about = {"codebase_version": version, "robot_type": "so100", "chunks_size": 2, "fps": FPS, **templates}
    (folder / "meta" / "info.json").write_text(json.dumps({**about, "features": described, **(info or {})}))
    return f"lerobot:{folder}"


def second(folder, table, spans, listed, lossless):
    """A file an episode, two episodes a chunk."""
    for number, rows in enumerate(spans):
        place = f"chunk-{number // 2:03d}"
        write_table(folder / f"data/{place}/episode_{number:06d}.parquet", table, rows)
        write_video(folder / f"videos/{place}/{TOP}/episode_{number:06d}.mp4", pictures(1)[rows], lossless=lossless)
    (folder / "meta").mkdir()
    episodes = [{"episode_index": i, "tasks": [], "length": length} for i, length in enumerate(listed)]
    tasks = [{"task_index": i, "task": task} for i, task in enumerate(TASKS)]
    for name, rows in (("episodes", episodes), ("tasks", tasks)):
        (folder / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def third(folder, table, spans, listed, lossless):
    """Two files of tables, the second with one episode; two of videos, the first with one."""
    write_table(folder / "data/chunk-000/file-000.parquet", table, slice(0, spans[1].stop))
    write_table(folder / "data/chunk-000/file-001.parquet", table, spans[2])
    write_video(folder / f"videos/{TOP}/chunk-000/file-000.mp4", pictures(1)[spans[0]], lossless=lossless)
    write_video(folder / f"videos/{TOP}/chunk-001/file-000.mp4", pictures(1)[spans[1].start :], lossless=lossless)
    write_table(
        folder / "meta/episodes/chunk-000/file-000.parquet",
        {
            "episode_index": np.arange(3),
            "length": np.array(listed),
            "data/chunk_index": np.array([0, 0, 0]),
            "data/file_index": np.array([0, 0, 1]),
            f"videos/{TOP}/chunk_index": np.array([0, 1, 1]),
            f"videos/{TOP}/file_index": np.array([0, 0, 0]),
            f"videos/{TOP}/from_timestamp": np.array([0, 0, LENGTHS[1] / FPS]),
            f"videos/{TOP}/to_timestamp": np.array([*LENGTHS[:2], LENGTHS[1] + LENGTHS[2]]) / FPS,
        },
    )
    write_table(folder / "meta/tasks.parquet", {"task_index": np.arange(2), "__index_level_0__": np.array(TASKS)})
