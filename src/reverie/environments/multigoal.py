"""A point in the plane and four goals around it, all as good: which of them does an agent that learns online go to?

After Haarnoja et al. 2017, "Reinforcement Learning with Deep Energy-Based Policies". Every episode starts in the
middle, where every way is as good as the others; a Gaussian policy, of one mode, settles for one.
"""

from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.environments import drawing

GOALS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
"""East, north, west, south; all are 1 from the middle."""
GOAL_RADIUS = 0.15
DRAWN_RADIUS = 0.06
"""Of the point in pictures."""
FARTHEST = 0.2
"""Displacement of a step, in each direction."""
SIZE = 1.5
"""The point stays within -1.5 and 1.5."""
LIMIT = 30
"""Steps of an episode at most."""


class MultiGoal(drawing.PlanarPoint):
    """The task.

    An observation is the position (x, y), float32 `[2]`; an action the displacement, float32 `[2]` in -0.2..0.2. The
    reward is minus the distance from the nearest goal, after the step. An episode ends within 0.15 of a goal, or is cut
    after 30 steps. The info has `success`, whether the point is at a goal, and `goal`, its number from 1, or 0.
    """

    view = drawing.plane(SIZE)

    def __init__(self) -> None:
        self.spec = EnvSpec("multigoal", max_episode_steps=LIMIT)
        self.action_space = Box(-FARTHEST, FARTHEST, (2,), np.float32)
        self.observation_space = Box(-SIZE, SIZE, (2,), np.float32)
        self.position, self.steps = np.zeros(2), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.position, self.steps = np.zeros(2), 0
        return self.position.astype(np.float32), {"success": False, "goal": 0}

    def step(self, action: ArrayLike) -> Any:
        moved = np.clip(np.asarray(action, float), -FARTHEST, FARTHEST)
        self.position = np.clip(self.position + moved, -SIZE, SIZE)
        self.steps += 1
        distances = np.linalg.norm(GOALS - self.position, axis=1)
        there = bool(distances.min() <= GOAL_RADIUS)
        info = {"success": there, "goal": int(distances.argmin()) + 1 if there else 0}
        timeout = self.steps >= LIMIT and not there
        return self.position.astype(np.float32), -float(distances.min()), there, timeout, info

    def shapes(self) -> list[drawing.Disc | drawing.Polygon]:
        goals = [drawing.Disc(goal, GOAL_RADIUS, drawing.GOAL) for goal in GOALS]
        return [*goals, drawing.Disc(self.position, DRAWN_RADIUS, drawing.AGENT)]
