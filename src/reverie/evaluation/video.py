"""Films of episodes: what the environment draws, step by step, as MP4 where PyAV is installed, else as GIF.

Where the environment says at which pixels observations lie (`environments.drawing.Planar`), the way taken is drawn on
its pictures, and below it what the policy plans, if it says so (`evaluation.RunPolicy.planned`).
"""

from __future__ import annotations

import io
import os
from base64 import b64encode
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from PIL import Image, ImageDraw

from reverie.errors import ReverieError

LARGEST = 480
"""Pixels of a frame's longer side."""
GIF_RATE = 20
"""Frames a second that a GIF has at most."""


TAKEN, PLANNED = (65, 105, 225, 255), (192, 57, 43, 110)
"""Colours of the way taken and of what is planned, and how much they cover."""
Plan = Callable[[], np.ndarray | None]
"""What is planned now, observations `[T, ...]`; None where nothing is."""


class Filmed(gymnasium.Wrapper):
    """Keeps a picture of every state of an episode."""

    def __init__(self, env: gymnasium.Env, plan: Plan = lambda: None):
        """`plan` is asked before each step, and drawn on the picture of the state that it was made in."""
        super().__init__(env)
        self.plan = plan
        self.project = env.get_wrapper_attr("project") if env.has_wrapper_attr("project") else None
        if "DISPLAY" not in os.environ:
            os.environ.setdefault("MUJOCO_GL", "egl")  # which draws without a screen
        self.env.unwrapped.render_mode = "rgb_array"
        _follow(self.env.unwrapped)
        self.frames: list[bytes] = []
        self.taken: list[np.ndarray] = []
        self.planned: np.ndarray | None = None

    def reset(self, **options: Any) -> Any:
        self.frames, self.taken, self.planned = [], [], None
        found = self.env.reset(**options)
        self._add()
        return found

    def step(self, action: Any) -> Any:
        if self.project is not None and (plan := self.plan()) is not None:
            self.planned = self.project(plan)
            self.frames[-1] = self._picture()
        found = self.env.step(action)
        self._add()
        return found

    def _add(self) -> None:
        self.drawn = self._draw()
        if self.project is not None:
            self.taken.append(self.project(self.env.get_wrapper_attr("state")))
        self.frames.append(self._picture())

    def _picture(self) -> bytes:
        """As JPEG, since a film of arrays would not fit into memory."""
        lines = [] if self.planned is None else [(self.planned, PLANNED)]
        lines += [(np.stack(self.taken), TAKEN)] if self.taken else []
        image, file = Image.fromarray(with_lines(self.drawn, lines)), io.BytesIO()
        image.thumbnail((LARGEST, LARGEST))
        image.save(file, "JPEG", quality=85)
        return file.getvalue()

    def _draw(self) -> np.ndarray:
        """Uint8 `[height, width, 3]`. Raises ReverieError where nothing is drawn."""
        try:
            drawn = self.env.render()
        except Exception as error:  # of the simulator, of the graphics, or NotImplementedError
            raise ReverieError(f"{self.title} cannot be drawn ({error or type(error).__name__}): no video.") from error
        if not isinstance(drawn, np.ndarray) or drawn.ndim != 3:
            raise ReverieError(f"{self.title} draws no pictures of its states: no video.")
        return drawn.astype(np.uint8)

    @property
    def title(self) -> str:
        return self.spec.id if self.spec is not None else type(self.unwrapped).__name__

    @property
    def rate(self) -> float:
        """Frames a second at which time passes as in the task."""
        return float(self.metadata.get("render_fps") or 30)


def film(envs: list, count: int, policy: Any = None) -> list[Filmed]:
    """The first ones, which from now on keep pictures, with the plans of a policy that has `planned(i)`: they are
    replaced in the list as well."""
    planned = getattr(policy, "planned", lambda i: None)
    envs[:count] = [Filmed(env, partial(planned, i)) for i, env in enumerate(envs[:count])]
    return envs[:count]


def with_lines(picture: np.ndarray, lines: Sequence[tuple[np.ndarray, tuple[int, int, int, int]]]) -> np.ndarray:
    """Lines drawn on a picture, uint8 `[height, width, 3]`: the pixels `[T, K, 2]` of K bodies, and a colour with how
    much it covers, of 255. Two pixels wide, without what is not finite."""
    if not lines:
        return picture
    height, width = picture.shape[:2]
    image = Image.fromarray(picture).resize((2 * width, 2 * height), Image.Resampling.NEAREST)
    for pixels, colour in lines:
        layer = Image.new("RGBA", image.size)
        pen = ImageDraw.Draw(layer)
        for body in np.moveaxis(np.asarray(pixels, float), 1, 0):
            # Pillow counts from a pixel's middle. Far outside, its whole numbers would overflow.
            places = np.clip(2 * body[np.isfinite(body).all(-1)] - 0.5, -1e4, 1e4)
            if len(places) > 1:
                pen.line([tuple(place) for place in places.tolist()], fill=colour, width=4, joint="curve")
        image.paste(layer, mask=layer)
    return np.asarray(image.reduce(2))


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


class Film(NamedTuple):
    """A file of `save`, which a notebook shows."""

    path: Path

    def _repr_html_(self) -> str:
        held = b64encode(self.path.read_bytes()).decode()
        if self.path.suffix == ".mp4":
            return f'<video controls loop muted src="data:video/mp4;base64,{held}"></video>'
        return f'<img alt="A film of an episode" src="data:image/gif;base64,{held}">'


def _has_av() -> bool:
    from importlib.util import find_spec

    return find_spec("av") is not None


def _save_mp4(frames: Sequence[bytes], path: Path, rate: float) -> None:
    import av

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
    every = max(1, round(rate / GIF_RATE))
    pictures = [Image.open(io.BytesIO(frame)) for frame in frames[::every]]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 * every / rate), loop=0)
