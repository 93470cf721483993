"""Several actions in a row as one: chunks, for any method and any environment of one agent."""

from typing import Any

import gymnasium
import numpy as np

from reverie.errors import ReverieError

HAPPENED = ("success", "is_success")
"""In an environment's info: that it happened in a step."""


class Chunked(gymnasium.Wrapper):
    """Its actions are `size` of the environment's side by side, executed one after another until the episode ends. A
    step's reward and info["cost"] are their sums, success is that of any of them, and all else is as after the last."""

    def __init__(self, env: Any, size: int, name: str):
        """Raises ReverieError for less than 1, and for an environment of several agents, of several tasks in turn or of
        actions that are no vector."""
        super().__init__(env)
        space = env.action_space
        if size < 1:
            raise ReverieError(f"{name}@chunk={size} has no action; give it 1 or more.")
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1 or hasattr(env, "episode"):
            raise ReverieError(f"{name} is no task of one agent with actions that are a vector, which chunks are of.")
        self.size = size
        low, high = (np.tile(bound, size) for bound in (space.low, space.high))
        self.action_space = gymnasium.spaces.Box(low, high, dtype=space.dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        summed: dict[str, float] = {}
        happened: dict[str, bool] = {}
        total = 0.0
        for each in np.split(np.asarray(action), self.size):
            observation, reward, terminated, truncated, info = self.env.step(each)
            total += float(reward)
            if "cost" in info:
                summed["cost"] = summed.get("cost", 0.0) + float(info["cost"])
            happened |= {key: happened.get(key, False) or bool(info[key]) for key in HAPPENED if key in info}
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, {**info, **summed, **happened}
