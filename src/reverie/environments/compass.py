"""A compass: a point in the plane and eight goals around it, each a task. What is observed is where the point
is, which says nothing of the goal.

Who is not told the task goes to an eighth of the goals. The smallest task for methods of several tasks.
"""

import math
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.environments import drawing
from reverie.environments.turns import turn_of

TASKS = ("east", "north-east", "north", "north-west", "west", "south-west", "south", "south-east")
GOALS = np.array([[math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)] for k in range(len(TASKS))])
"""In the tasks' order, `[8, 2]`; all are 1 from the middle."""
GOAL_RADIUS = 0.15
DRAWN_RADIUS = 0.06
"""Of the point in pictures."""
SPREAD = 0.05
"""Standard deviation of a start, in each direction, around the middle."""
FARTHEST = 0.1
"""Displacement of a step, in each direction."""
SIZE = 1.5
"""The point stays within -1.5 and 1.5."""
LIMIT = 40
"""Steps of an episode."""


class Compass(drawing.PlanarPoint):
    """The tasks in turn (`environments.turns`).

    An observation is the position (x, y), float32 `[2]`; an action the displacement, float32 `[2]` in -0.1..0.1. The
    reward is 1 at every step that ends within 0.15 of the task's goal, else 0. Every episode has 40 steps. The info has
    `success`, whether the point is there, and `task`, 1 to 8.
    """

    tasks, task_names = len(TASKS), TASKS
    view = drawing.plane(SIZE)

    def __init__(self) -> None:
        self.spec = EnvSpec("compass", max_episode_steps=LIMIT)
        self.action_space = Box(-FARTHEST, FARTHEST, (2,), np.float32)
        self.observation_space = Box(-SIZE, SIZE, (2,), np.float32)
        self.episode: int | None = None
        self.position, self.task, self.steps = np.zeros(2), -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.task = turn_of(self.episode, seed, self.task) % self.tasks
        self.position, self.steps = self.np_random.normal(0.0, SPREAD, 2), 0
        return self._seen()

    def step(self, action: ArrayLike) -> Any:
        moved = np.clip(np.asarray(action, float), -FARTHEST, FARTHEST)
        self.position = np.clip(self.position + moved, -SIZE, SIZE)
        self.steps += 1
        seen, info = self._seen()
        return seen, float(info["success"]), False, self.steps >= LIMIT, info

    def _seen(self) -> tuple[np.ndarray, dict[str, Any]]:
        there = math.dist(self.position, GOALS[self.task]) <= GOAL_RADIUS
        return self.position.astype(np.float32), {"success": there, "task": self.task + 1}

    def shapes(self) -> list[drawing.Disc | drawing.Polygon]:
        """The task's goal is green, the others are grey."""
        colours = [drawing.GOAL if i == self.task else drawing.WALL for i in range(self.tasks)]
        goals = [drawing.Disc(goal, GOAL_RADIUS, colour) for goal, colour in zip(GOALS, colours, strict=True)]
        return [*goals, drawing.Disc(self.position, DRAWN_RADIUS, drawing.AGENT)]
