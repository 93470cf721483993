"""Actions of MPE's agents as forces: two numbers in -1 to 1, and what is said after them in 0 to 1, as the particle
worlds have them that multi-agent data were published for (OMAR's; Pan et al. 2022)."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from pettingzoo.utils import BaseParallelWrapper

SIDES = 5
"""Of the worlds' own numbers for moving: nothing, left, right, down, up. Two would do, as only right less left and up
less down count; a model of all five has to learn that one of two is 0."""


class Forces(BaseParallelWrapper):
    """A parallel environment of MPE with continuous actions, whose agents' actions are `[2 + words]`."""

    def __init__(self, env: Any):
        super().__init__(env)
        words = {agent: env.action_space(agent).shape[0] - SIDES for agent in env.possible_agents}
        self._spaces = {
            agent: Box(np.array([-1, -1] + [0] * n, np.float32), np.float32(1)) for agent, n in words.items()
        }

    def action_space(self, agent: str) -> Box:
        return self._spaces[agent]

    def step(self, actions: dict[str, np.ndarray]) -> Any:
        return self.env.step({agent: as_action(action) for agent, action in actions.items()})


def as_action(action: np.ndarray) -> np.ndarray:
    """Of a force and what is said, `[..., 2 + words]`, the worlds' own action, float32 `[..., 5 + words]`. A force
    beyond -1 to 1 counts as the nearest within."""
    force, words = np.clip(action[..., :2], -1, 1), action[..., 2:]
    down, up = np.maximum(-force, 0), np.maximum(force, 0)
    sides = np.stack([down[..., 0], up[..., 0], down[..., 1], up[..., 1]], -1)
    return np.concatenate([np.zeros_like(sides[..., :1]), sides, words], -1).astype(np.float32)
