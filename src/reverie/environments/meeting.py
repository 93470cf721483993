"""A meeting: two agents on a line that must go to the same of two places. Both are equally good, and neither agent sees
the other.

Who decides for each agent alone sends them apart half of the time. The smallest task in which agents must agree.
"""

from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.environments import drawing

PLACE = 1.0
"""The places are at -1 and 1."""
NEAR = 0.1
"""Distance from a place within which an agent has arrived."""
SPREAD = 0.05
"""Standard deviation of a start, around the middle."""
FARTHEST = 0.2
"""Displacement of a step."""
LANES = np.array([0.15, -0.15])
"""Heights at which the two are drawn, so that they are seen side by side."""
LIMIT = 14
"""Steps of an episode."""


class Meeting(drawing.Planar):
    """The task.

    Observations are the agents' positions, float32 `[2, 1]`, each its own; actions their displacements, float32
    `[2, 1]` in -0.2..0.2. An agent stays where it has arrived, within 0.1 of a place. The reward is 1 at the step at
    which both have arrived at the same place, else 0. Every episode has 14 steps, so that what has arrived is seen to
    stay. The info has `success`, from that step on, and `places` `[2]`: -1 or 1 of those that have arrived, else 0.
    """

    view = drawing.View((-1.3, -0.5), (1.3, 0.5))

    def __init__(self) -> None:
        self.spec = EnvSpec("meeting", max_episode_steps=LIMIT)
        self.action_space = Box(-FARTHEST, FARTHEST, (2, 1), np.float32)
        self.observation_space = Box(-PLACE - FARTHEST, PLACE + FARTHEST, (2, 1), np.float32)
        self.positions, self.steps, self.met = np.zeros(2), 0, False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.positions, self.steps, self.met = self.np_random.normal(0.0, SPREAD, 2), 0, False
        return self._seen(), {"success": False, "places": self._places()}

    def step(self, action: ArrayLike) -> Any:
        moved = np.clip(np.asarray(action, float).reshape(2), -FARTHEST, FARTHEST)
        self.positions = self.positions + np.where(self._places() == 0, moved, 0.0)
        self.steps += 1
        places, before = self._places(), self.met
        self.met = bool(places[0] == places[1] != 0)
        info = {"success": self.met, "places": places}
        return self._seen(), float(self.met and not before), False, self.steps >= LIMIT, info

    def _seen(self) -> np.ndarray:
        return self.positions.astype(np.float32)[:, None]

    def _places(self) -> np.ndarray:
        near = np.abs(self.positions) >= PLACE - NEAR
        return np.where(near, np.sign(self.positions), 0.0).astype(np.int64)

    @property
    def state(self) -> np.ndarray:
        return self._seen()

    def project(self, states: Any) -> np.ndarray:
        along = np.asarray(states, float)[..., 0]
        return self.view.pixels(np.stack(np.broadcast_arrays(along, LANES), -1))

    def shapes(self) -> list[drawing.Disc | drawing.Polygon]:
        """The places are as wide as an agent may be off."""
        corners = np.array([[-1, -0.4], [1, -0.4], [1, 0.4], [-1, 0.4]]) * [NEAR, 1]
        places = [drawing.Polygon(corners + np.array([side, 0]), drawing.GOAL) for side in (-PLACE, PLACE)]
        agents = zip(self.positions, LANES, (drawing.AGENT, drawing.OTHER), strict=True)
        return [*places, *(drawing.Disc((x, lane), 0.06, colour) for x, lane, colour in agents)]
