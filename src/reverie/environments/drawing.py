"""Tasks in the plane as pictures from above: where a place is in one, and what is drawn there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from numpy.typing import ArrayLike

Colour = tuple[int, int, int]
GROUND: Colour = (245, 245, 247)
WALL: Colour = (213, 217, 224)
OBSTACLE: Colour = (90, 90, 100)
GOAL: Colour = (144, 238, 144)
AGENT: Colour = (65, 105, 225)
OTHER: Colour = (217, 130, 43)
"""A second agent."""
FINER = 2
"""Pixels are the mean of so many squared."""


@dataclass(frozen=True)
class View:
    """What of the plane is seen, in the task's units, and in how many pixels."""

    low: tuple[float, float]
    high: tuple[float, float]
    upwards: bool = True
    """Whether the second coordinate grows upwards in the picture."""
    longer: int = 256
    """Pixels of the longer side."""

    @property
    def scale(self) -> float:
        """Pixels a unit."""
        return self.longer / max(np.subtract(self.high, self.low))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = np.subtract(self.high, self.low) * self.scale
        return round(width), round(height)

    def pixels(self, places: ArrayLike) -> np.ndarray:
        """Where places `[..., 2]` are: column and row, counted from the picture's upper left corner, so that the first
        pixel's middle is (0.5, 0.5). Float64 `[..., 2]`."""
        x, y = np.moveaxis(np.asarray(places, float), -1, 0)
        down = self.high[1] - y if self.upwards else y - self.low[1]
        return np.stack([x - self.low[0], down], -1) * self.scale


class Disc(NamedTuple):
    """In the task's units."""

    centre: ArrayLike
    radius: float
    colour: Colour


class Polygon(NamedTuple):
    """Corners `[n, 2]` in the task's units."""

    corners: ArrayLike
    colour: Colour


def square(low: ArrayLike, side: float, colour: Colour) -> Polygon:
    """The one whose lower left corner is at `low`."""
    return Polygon(np.asarray(low) + side * np.array([[0, 0], [1, 0], [1, 1], [0, 1]]), colour)


def draw(view: View, shapes: Sequence[Disc | Polygon]) -> np.ndarray:
    """One upon the other on the ground: uint8 `[height, width, 3]`."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (view.size[0] * FINER, view.size[1] * FINER), GROUND)
    pen = ImageDraw.Draw(image)

    def at(places: ArrayLike) -> np.ndarray:
        return view.pixels(places) * FINER - 0.5  # pillow counts from a pixel's middle

    for shape in shapes:
        if isinstance(shape, Disc):
            (x, y), r = at(shape.centre), shape.radius * view.scale * FINER
            pen.ellipse(tuple(map(round, (x - r, y - r, x + r, y + r))), fill=shape.colour)
        else:
            pen.polygon([tuple(corner) for corner in at(shape.corners).tolist()], fill=shape.colour)
    return np.asarray(image.reduce(FINER))


class Planar(gymnasium.Env):
    """A task that is drawn from above, and says where in its pictures what is observed lies.

    Films draw plans and the way taken on the pictures of any environment, or wrapper, with `state` and `project`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as Gymnasium has it
    render_mode = "rgb_array"
    view: View

    @property
    def state(self) -> np.ndarray:
        """Where everything is now, as observations say it."""
        raise NotImplementedError

    def project(self, states: Any) -> np.ndarray:
        """Where in a picture the K bodies are of observations `[..., *observation]`, or of their first columns:
        column and row `[..., K, 2]`. A point's position here, K = 1."""
        return self.view.pixels(np.asarray(states)[..., None, :2])

    def shapes(self) -> list[Disc | Polygon]:
        """What is drawn now, the lowest first."""
        raise NotImplementedError

    def render(self) -> np.ndarray:
        """Uint8 `[height, width, 3]`."""
        return draw(self.view, self.shapes())


class PlanarPoint(Planar):
    """A point at `position`, which is all that is observed."""

    position: np.ndarray

    @property
    def state(self) -> np.ndarray:
        return self.position


def plane(size: float) -> View:
    """From -size to size both ways."""
    return View((-size, -size), (size, size))
