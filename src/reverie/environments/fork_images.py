"""The fork seen from above, and how else it may look: another ground, and discs on it that mean nothing."""

import math
from typing import Any, NamedTuple

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.environments import drawing
from reverie.environments.fork import GOAL, GOAL_RADIUS, LIMIT, OBSTACLE, OBSTACLE_RADIUS, SIZE, Fork

PIXELS = 24
COLOURS = {"goal": drawing.GOAL, "obstacle": drawing.OBSTACLE, "agent": drawing.AGENT}
"""They are the same in all looks."""
AGENT_RADIUS = 0.2
MOST_DISCS = 4
"""Of a look that is drawn."""
MOST_WAVES = 2.5
"""Across the picture."""


class Look(NamedTuple):
    """All that may change without changing the task."""

    ground: np.ndarray
    """Two colours `[2, 3]`, 0 to 255, which a wave blends."""
    wave: np.ndarray
    """Of that: radians a unit of x, radians a unit of y, phase: `[3]`."""
    discs: np.ndarray
    """On the ground, below all else: x, y, radius, `[K, 3]`."""
    colours: np.ndarray
    """Of the discs `[K, 3]`."""


PLAIN = Look(np.full((2, 3), 235.0), np.zeros(3), np.zeros((0, 3)), np.zeros((0, 3)))
"""The look of the demonstrations."""


def draw_look(rng: np.random.Generator) -> Look:
    """Any two colours, in up to 2.5 stripes across, and up to four discs of any colours anywhere."""
    angle, waves, count = rng.uniform(0, 2 * math.pi), rng.uniform(0, MOST_WAVES), rng.integers(MOST_DISCS + 1)
    along = waves * 2 * math.pi / (2 * SIZE)
    wave = np.array([along * math.cos(angle), along * math.sin(angle), rng.uniform(0, 2 * math.pi)])
    places = np.c_[rng.uniform(-SIZE, SIZE, (count, 2)), rng.uniform(0.1, 0.35, count)]
    return Look(rng.integers(0, 256, (2, 3)) * 1.0, wave, places, rng.integers(0, 256, (count, 3)) * 1.0)


def draw(position: ArrayLike, look: Look = PLAIN, pixels: int = PIXELS) -> np.ndarray:
    """The plane from above, y upwards: uint8 `[pixels, pixels, 3]`. A pixel has the colour of what is at its middle."""
    middles = (np.arange(pixels) + 0.5) / pixels * 2 * SIZE - SIZE
    x, y = np.meshgrid(middles, -middles)
    share = (1 + np.sin(look.wave[0] * x + look.wave[1] * y + look.wave[2]))[..., None] / 2
    image = (1 - share) * look.ground[0] + share * look.ground[1]
    things = [
        *((disc[:2], disc[2], colour) for disc, colour in zip(look.discs, look.colours, strict=True)),
        (GOAL, GOAL_RADIUS, COLOURS["goal"]),
        (OBSTACLE, OBSTACLE_RADIUS, COLOURS["obstacle"]),
        (position, AGENT_RADIUS, COLOURS["agent"]),
    ]
    for place, radius, colour in things:
        image[np.hypot(x - place[0], y - place[1]) <= radius] = colour
    return image.round().astype(np.uint8)


class ForkImages(Fork):
    """The fork's task, of which a picture is seen: uint8 `[24, 24, 3]`.

    The goal, the obstacle and the agent look the same always. With `looks` every reset draws another ground and discs
    on it; without, the ground is plain, as in the demonstrations.
    """

    def __init__(self, looks: bool = False):
        super().__init__()
        self.spec = EnvSpec("fork-looks" if looks else "fork-images", max_episode_steps=LIMIT)
        self.observation_space: Any = Box(0, 255, (PIXELS, PIXELS, 3), np.uint8)
        self.looks, self.look = looks, PLAIN

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        _, info = super().reset(seed=seed, options=options)
        if self.looks:
            self.look = draw_look(self.np_random)
        return draw(self.position, self.look), info

    def render(self) -> np.ndarray:
        """As it is seen, in more pixels."""
        return draw(self.position, self.look, self.view.longer)

    def step(self, action: ArrayLike) -> Any:
        _, *rest = super().step(action)
        return draw(self.position, self.look), *rest
