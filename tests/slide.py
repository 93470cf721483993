"""A small task for methods on policy: a point to be pushed home, in units that are far from 1."""

import gymnasium
import numpy as np

SHORT = {"warmup": 200, "update_interval": 200, "log_every": 200, "envs": 4, "progress": False}


class Slide(gymnasium.Env):
    """A point that is pushed towards 0 and paid by how near it is; episodes end far out, or are cut after 10 steps."""

    observation_space = gymnasium.spaces.Box(-1e3, 1e3, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 6, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.steps = 100 * self.np_random.uniform(-1, 1, 1), 0
        return self.at.astype(np.float32), {}

    def step(self, action):
        self.at, self.steps = self.at + 10 * (action - 2), self.steps + 1
        far = bool(abs(self.at[0]) > 200)
        return self.at.astype(np.float32), 10 * (1 - abs(float(self.at[0])) / 100), far, self.steps == 10, {}
