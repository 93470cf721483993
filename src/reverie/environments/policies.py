"""Controllers that need no learning, as batched policies: what learned runs are compared with.

A batched policy has a `name`, `reset(n)` (n environments start anew) and `act(observations, feedback) -> actions
[n, action]`, where observations are an array [n, observation] or a dict of such, in goal environments of "observation"
and "desired_goal", and feedback is what the last step brought: "reward" and "cost", [n] each, 0 before the first.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from reverie.control import KD, KP, straight_line, track
from reverie.environments.pointmaze import Settings, WaypointController, find_maze

if TYPE_CHECKING:
    from gymnasium.spaces import Box

_track = jax.jit(track)
Observations = np.ndarray | dict[str, np.ndarray]


class Policy(Protocol):
    """Acts in n environments at once."""

    @property
    def name(self) -> str:
        """How tables call it."""

    def reset(self, n: int) -> None:
        """n environments start anew."""

    def act(self, observations, feedback: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """One action for each environment: [n, action]."""


class WaypointPolicy:
    """The controller that collects the mazes' data, without its noise: shortest paths, cell by cell."""

    name = "waypoint controller"

    def __init__(self, maze: str):
        self.maze = find_maze(maze)
        self._controllers: list[WaypointController] = []

    def reset(self, n: int) -> None:
        self._controllers = [WaypointController(self.maze, Settings()) for _ in range(n)]

    def act(self, observations: dict[str, np.ndarray], feedback: Any = None) -> np.ndarray:
        states, goals = (map(tuple, observations[key].tolist()) for key in ("observation", "desired_goal"))
        rows = zip(self._controllers, states, goals, strict=True)
        actions = [controller.action(state, goal) for controller, state, goal in rows]
        return np.clip(np.array(actions, np.float32), -1.0, 1.0)


class StraightLinePolicy:
    """Goes straight from start to goal at constant speed, through any wall it can: the planner that knows no maze.

    The plan is made at the first observation after a reset and then tracked like any other (`control.track`).
    """

    name = "straight line"

    def __init__(self, speed: float = 2.0, dt: float = 0.01, kp: float = KP, kd: float = KD):
        """`speed` in m/s, `dt` in seconds per environment step, gains as in `control.track`."""
        self.speed, self.dt, self.kp, self.kd = speed, dt, kp, kd
        self._plan: np.ndarray | None = None
        self._row = 0

    def reset(self, n: int) -> None:
        self._plan, self._row = None, 0

    def act(self, observations: dict[str, np.ndarray], feedback: Any = None) -> np.ndarray:
        if self._plan is None:
            self._plan = self._straight(observations["observation"][:, :2], observations["desired_goal"])
        self._row = min(self._row + 1, self._plan.shape[1] - 1)
        return np.asarray(_track(self._plan[:, self._row], observations["observation"], kp=self.kp, kd=self.kd))

    def _straight(self, start: np.ndarray, goal: np.ndarray) -> np.ndarray:
        longest = float(np.linalg.norm(goal - start, axis=1).max())
        rows = 2 + math.ceil(longest / (self.speed * self.dt))
        return np.asarray(straight_line(start, goal, self.speed, self.dt, rows))


class RandomPolicy:
    """Actions drawn uniformly from the action space."""

    name = "random"

    def __init__(self, space: "Box", seed: int = 0):
        self.space, self.seed = space, seed

    def reset(self, n: int) -> None:
        self._rng, self._n = np.random.default_rng(self.seed), n

    def act(self, observations: Observations, feedback: Any = None) -> np.ndarray:
        draw = self._rng.uniform(self.space.low, self.space.high, (self._n, *self.space.shape))
        return draw.astype(np.float32)
