"""Films of episodes: what the environment draws, step by step, as MP4 where PyAV is installed, else as GIF."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from reverie.errors import ReverieError

LARGEST = 480
"""Pixels of a frame's longer side."""
GIF_RATE = 20
"""Frames a second that a GIF has at most."""


class Filmed(gymnasium.Wrapper):
    """Keeps a picture of every state of an episode."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        if "DISPLAY" not in os.environ:
            os.environ.setdefault("MUJOCO_GL", "egl")  # which draws without a screen
        self.env.unwrapped.render_mode = "rgb_array"
        _follow(self.env.unwrapped)
        self.frames: list[bytes] = []

    def reset(self, **options: Any) -> Any:
        self.frames = []
        found = self.env.reset(**options)
        self.frames.append(self.picture())
        return found

    def step(self, action: Any) -> Any:
        found = self.env.step(action)
        self.frames.append(self.picture())
        return found

    def picture(self) -> bytes:
        """As JPEG, since a film of arrays would not fit into memory. Raises ReverieError where nothing is drawn."""
        from PIL import Image

        try:
            drawn = self.env.render()
        except Exception as error:  # of the simulator, of the graphics, or NotImplementedError
            raise ReverieError(f"{self.title} cannot be drawn ({error or type(error).__name__}): no video.") from error
        if not isinstance(drawn, np.ndarray) or drawn.ndim != 3:
            raise ReverieError(f"{self.title} draws no pictures of its states: no video.")
        image, file = Image.fromarray(drawn.astype(np.uint8)), io.BytesIO()
        image.thumbnail((LARGEST, LARGEST))
        image.save(file, "JPEG", quality=85)
        return file.getvalue()

    @property
    def title(self) -> str:
        return self.spec.id if self.spec is not None else type(self.unwrapped).__name__

    @property
    def rate(self) -> float:
        """Frames a second at which time passes as in the task."""
        return float(self.metadata.get("render_fps") or 30)


def _follow(env: Any) -> None:
    """Let MuJoCo's camera that goes with the body draw, where the model has one: the default one stays behind."""
    renderer, model = getattr(env, "mujoco_renderer", None), getattr(env, "model", None)
    if renderer is not None and model is not None:
        names = [model.camera(i).name for i in range(model.ncam)]
        renderer.camera_id = names.index("track") if "track" in names else renderer.camera_id


def write_films(films: Sequence[Filmed], returns: Sequence[float], folder: str | Path, title: str) -> list[Path]:
    """The best and the worst of some episodes, by their returns, in files that say so; one file if they are one."""
    order = np.argsort(np.asarray(returns), kind="stable")
    chosen = dict.fromkeys((int(order[-1]), int(order[0])))
    paths = []
    for name, at in zip(("best", "worst"), chosen, strict=False):
        path = Path(folder) / f"{title.replace('/', '-')}-{name}-{returns[at]:.4g}.{'mp4' if _has_av() else 'gif'}"
        paths.append(save(films[at].frames, path, films[at].rate))
    return paths


def save(frames: Sequence[bytes], path: Path, rate: float) -> Path:
    """Pictures as a film of so many a second; the suffix decides the format, .mp4 (with PyAV) or .gif."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (_save_mp4 if path.suffix == ".mp4" else _save_gif)(frames, path, rate)
    return path


def _has_av() -> bool:
    from importlib.util import find_spec

    return find_spec("av") is not None


def _save_mp4(frames: Sequence[bytes], path: Path, rate: float) -> None:
    import av
    from PIL import Image

    pictures = (Image.open(io.BytesIO(frame)) for frame in frames)
    first = next(pictures)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=round(rate))
        # Both even, as the format wants them.
        stream.width, stream.height = (length - length % 2 for length in first.size)
        stream.pix_fmt = "yuv420p"
        for picture in (first, *pictures):
            cut = picture.crop((0, 0, stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_image(cut)))
        container.mux(stream.encode())


def _save_gif(frames: Sequence[bytes], path: Path, rate: float) -> None:
    from PIL import Image

    every = max(1, round(rate / GIF_RATE))
    pictures = [Image.open(io.BytesIO(frame)) for frame in frames[::every]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 * every / rate), loop=0)
