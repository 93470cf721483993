"""Frames out of videos and out of encoded images, as uint8 with channels last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.data.schemes import brief, imported
from reverie.errors import DataError


class Frame(NamedTuple):
    """What a camera's frames are stored as, and what they are to be."""

    height: int
    width: int
    channels: int
    """1 (grey), 3 or 4."""
    size: tuple[int, int] | None = None
    """Height and width to bring them to; None leaves them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`[H, W, C]` after that."""
        return (*(self.size or (self.height, self.width)), self.channels)


_VIDEO = {1: "gray", 3: "rgb24", 4: "rgba"}
_IMAGE = {1: "L", 3: "RGB", 4: "RGBA"}


def read_video(
    path: Path, seconds: NDArray[np.floating], fps: float, frame: Frame, put: Callable[[int, np.ndarray], None]
) -> None:
    """Calls `put(i, image)` with the frame that is nearest to `seconds[i]` (ascending), for all i in order.

    Raises DataError where the video is missing, no video, or of another size than `frame` says, and where a frame is
    more than half a step (of `fps` a second) from where it should be, or missing.
    """
    done, half = 0, 0.5 / fps
    with _opened(path) as (container, stream):
        if seconds[0] > 1:  # to the key frame before
            container.seek(int((seconds[0] - half) / stream.time_base), stream=stream)
        for picture in container.decode(stream):
            if picture.time is None or picture.time < seconds[done] - half:
                continue
            if picture.time > seconds[done] + half:
                break
            _check_size(path, (picture.height, picture.width), frame)
            put(done, _pixels(picture, frame))
            done += 1
            if done == len(seconds):
                return
    raise DataError(
        f"{str(path)!r} has no frame at {seconds[done]:.3f} s, and the data have {len(seconds) - done} more steps from "
        "there on; download or record it again."
    )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = imported("av", "lerobot")
    if not path.is_file():
        raise DataError(f"There is no video {str(path)!r}; download the whole folder.")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (av.FFmpegError, IndexError) as error:
        raise DataError(f"{str(path)!r} is no whole video ({brief(error)}); download or record it again.") from error


def _pixels(picture: Any, frame: Frame) -> np.ndarray:
    height, width, _ = frame.shape
    pixels = picture.to_ndarray(width=width, height=height, format=_VIDEO[frame.channels], interpolation="BILINEAR")
    return pixels.reshape(frame.shape)


def read_image(encoded: bytes, what: str, frame: Frame) -> np.ndarray:
    """An image file's pixels. Raises DataError, naming `what`, where it is none, of another size, or not of 8 bits."""
    from PIL import Image

    try:
        image: Any = Image.open(BytesIO(encoded))
        image.load()
    except OSError as error:
        raise DataError(f"{what} is no whole image ({brief(error)}); download or record it again.") from error
    if image.mode not in ("L", "RGB", "RGBA", "P", "1", "LA"):
        raise DataError(f"{what} is an image of mode {image.mode!r}, not of 8 bits; leave that camera out by @keys=.")
    _check_size(what, (image.height, image.width), frame)
    image = image.convert(_IMAGE[frame.channels])
    if frame.size:
        image = image.resize(frame.size[::-1], Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(frame.shape)


def _check_size(what: Path | str, found: tuple[int, int], frame: Frame) -> None:
    if found != (frame.height, frame.width):
        name = repr(str(what)) if isinstance(what, Path) else what
        raise DataError(
            f"{name} has a frame of {found[0]}x{found[1]} (height x width) where info.json says "
            f"{frame.height}x{frame.width}; correct whichever is wrong."
        )
