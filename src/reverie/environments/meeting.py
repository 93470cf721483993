"""A meeting: two agents on a line that must go to the same of two places. Both are equally good, and neither agent sees
the other.

Who decides for each agent alone sends them apart half of the time. The smallest task in which agents must agree.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

PLACE = 1.0
"""The places are at -1 and 1."""
NEAR = 0.1
"""Distance from a place within which an agent has arrived."""
SPREAD = 0.05
"""Standard deviation of a start, around the middle."""
FARTHEST = 0.2
"""Displacement of a step."""
LIMIT = 20
"""Steps of an episode."""


class Meeting(gymnasium.Env):
    """The task.

    Observations are the agents' positions, float32 `[2, 1]`, each its own; actions their displacements, float32
    `[2, 1]` in -0.2..0.2. An agent stays where it has arrived, within 0.1 of a place. An episode ends when both have
    arrived, with reward 1 if it is at the same place; all other rewards are 0, and after 20 steps it is over. The info
    has `success`, and `places` `[2]`: -1 or 1 of those that have arrived, else 0.
    """

    def __init__(self) -> None:
        self.spec = EnvSpec("meeting", max_episode_steps=LIMIT)
        self.action_space = Box(-FARTHEST, FARTHEST, (2, 1), np.float32)
        self.observation_space = Box(-PLACE - FARTHEST, PLACE + FARTHEST, (2, 1), np.float32)
        self.positions, self.steps = np.zeros(2), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.positions, self.steps = self.np_random.normal(0.0, SPREAD, 2), 0
        return self._seen(), {"success": False, "places": self._places()}

    def step(self, action: ArrayLike) -> Any:
        moved = np.clip(np.asarray(action, float).reshape(2), -FARTHEST, FARTHEST)
        self.positions = self.positions + np.where(self._places() == 0, moved, 0.0)
        self.steps += 1
        places = self._places()
        arrived = bool((places != 0).all())
        success = arrived and bool(places[0] == places[1])
        info = {"success": success, "places": places}
        return self._seen(), float(success), arrived, self.steps >= LIMIT, info

    def _seen(self) -> np.ndarray:
        return self.positions.astype(np.float32)[:, None]

    def _places(self) -> np.ndarray:
        near = np.abs(self.positions) >= PLACE - NEAR
        return np.where(near, np.sign(self.positions), 0.0).astype(np.int64)
