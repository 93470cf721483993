"""A fork: a point in the plane, something round in its way, and a goal behind it. Left and right are equally good.

Whoever averages the two ways walks into the middle. The smallest task in which demonstrations are of two kinds.
"""

import math
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.environments import drawing

START, GOAL, OBSTACLE = (0.0, -1.0), (0.0, 1.0), (0.0, 0.0)
OBSTACLE_RADIUS, GOAL_RADIUS = 0.3, 0.15
SPREAD = 0.05
"""Standard deviation of a start, in each direction."""
FARTHEST = 0.1
"""Displacement of a step, in each direction."""
SIZE = 1.5
"""The point stays within -1.5 and 1.5."""
DRAWN_RADIUS = 0.06
"""Of the point in pictures."""
LIMIT = 60
"""Steps of an episode."""


class Fork(drawing.PlanarPoint):
    """The task.

    An observation is the position (x, y), float32 `[2]`; an action the displacement, float32 `[2]` in -0.1..0.1. An
    episode ends as a failure where the way of a step touches the obstacle, a disc of radius 0.3 in the middle, and with
    reward 1 within 0.15 of the goal (0, 1). All other rewards are 0, and after 60 steps it is over. The info has
    `success`, and `side`: -1 where the obstacle was passed on the left, 1 on the right, 0 before.

    A reset starts near (0, -1), with a standard deviation of 0.05; `options={"position": (x, y)}` says where else.
    """

    view = drawing.plane(SIZE)

    def __init__(self) -> None:
        self.spec = EnvSpec("fork", max_episode_steps=LIMIT)
        self.action_space = Box(-FARTHEST, FARTHEST, (2,), np.float32)
        self.observation_space = Box(-SIZE, SIZE, (2,), np.float32)
        self.position, self.side, self.steps = np.array(START), 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        start = (options or {}).get("position", START)
        self.position, self.side, self.steps = self.np_random.normal(start, SPREAD), 0, 0
        return self.position.astype(np.float32), {"success": False, "side": 0}

    def step(self, action: ArrayLike) -> Any:
        before = self.position
        moved = np.clip(np.asarray(action, float), -FARTHEST, FARTHEST)
        self.position = np.clip(before + moved, -SIZE, SIZE)
        self.steps += 1
        failed = nearest(before, self.position, OBSTACLE) <= OBSTACLE_RADIUS
        success = not failed and math.dist(self.position, GOAL) <= GOAL_RADIUS
        if self.side == 0 and self.position[1] > OBSTACLE[1]:
            self.side = 1 if self.position[0] > OBSTACLE[0] else -1
        info = {"success": success, "side": self.side}
        return self.position.astype(np.float32), float(success), failed or success, self.steps >= LIMIT, info

    def shapes(self) -> list[drawing.Disc | drawing.Polygon]:
        goal, obstacle = (
            drawing.Disc(GOAL, GOAL_RADIUS, drawing.GOAL),
            drawing.Disc(OBSTACLE, OBSTACLE_RADIUS, drawing.OBSTACLE),
        )
        return [goal, obstacle, drawing.Disc(self.position, DRAWN_RADIUS, drawing.AGENT)]


def nearest(start: np.ndarray, stop: np.ndarray, place: ArrayLike) -> float:
    """The distance of a place from the line between two points, `[2]` each."""
    line, away = stop - start, np.asarray(place) - start
    along = np.clip(line @ away / max(line @ line, 1e-12), 0.0, 1.0)
    return float(np.linalg.norm(away - along * line))
