"""A point on a line that is paid for its speed, which is also what it costs: the smallest task with a budget.

Of a budget as much return comes as is spent, so whoever obeys one exactly shows it in the return.
"""

from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from reverie.environments import drawing

LIMIT = 32
"""Steps of an episode."""
FASTEST = 1.0
GAIN = 0.25
"""Change of the speed by an action of 1."""
START = 0.2
"""Largest speed at an episode's start."""


class Speed(drawing.Planar):
    """The task.

    An observation is the speed, from 0 to 1, and the share of the episode that is left, float32 `[2]`; an action,
    float32 `[1]` in -1..1, changes the speed by a quarter of it. The reward and the info's `cost` are the speed after
    the step, so that an episode of 32 steps costs 0 to 32. Nothing else ends it.

    A reset draws a speed of at most 0.2.
    """

    view = drawing.View((-0.1, -0.1), (1.1, 1.1))

    def __init__(self) -> None:
        self.spec = EnvSpec("speed", max_episode_steps=LIMIT)
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space = Box(0.0, FASTEST, (2,), np.float32)
        self.speed, self.steps = 0.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.speed, self.steps = float(self.np_random.uniform(0.0, START)), 0
        return self._seen(), {}

    def step(self, action: ArrayLike) -> Any:
        changed = GAIN * float(np.clip(np.asarray(action, float).reshape(()), -1.0, 1.0))
        self.speed = float(np.clip(self.speed + changed, 0.0, FASTEST))
        self.steps += 1
        return self._seen(), self.speed, False, self.steps >= LIMIT, {"cost": self.speed}

    def _seen(self) -> np.ndarray:
        return np.array([self.speed, 1 - self.steps / LIMIT], np.float32)

    @property
    def state(self) -> np.ndarray:
        return self._seen()

    def project(self, states: Any) -> np.ndarray:
        """To the right the share of the episode that is over, upwards the speed."""
        speed, left = np.moveaxis(np.asarray(states, float), -1, 0)
        return self.view.pixels(np.stack([1 - left, speed], -1)[..., None, :])

    def shapes(self) -> list[drawing.Disc | drawing.Polygon]:
        """The square of all that can be, and where it is now."""
        speed, left = self._seen().tolist()
        return [drawing.square((0, 0), FASTEST, (255, 255, 255)), drawing.Disc((1 - left, speed), 0.03, drawing.AGENT)]
