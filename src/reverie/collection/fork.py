"""Demonstrations that go round the fork's obstacle on either side."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.collection.episodes import as_arguments, chained, record, whole_episodes
from reverie.collection.recipe import Entry, Part, Rows, Suite
from reverie.data import Dataset
from reverie.environments.registry import make

EPISODE = 25
"""Steps of one, about."""


@dataclass(frozen=True)
class Sides:
    """Whole episodes, as many as come nearest to the steps; each goes round on a side drawn at random.

    The way is x = side width cos(pi y / 2), from (0, -1) to (0, 1), with a width of its own. Every displacement has
    Gaussian noise, from which the next one leads back. `infos["side"]` [N] is -1 (left) or 1 where the obstacle has
    been passed and 0 before, `infos["success"]` [N] whether the goal is reached, both after the step.
    """

    noise: float = 0.01
    """Standard deviation of each number of an action."""
    pace: float = 0.08
    """Along y."""
    narrowest: float = 0.5
    widest: float = 0.7

    def parts(self, steps: int, seed: int) -> list[Part]:
        return whole_episodes(steps, EPISODE, 1000, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng, env = part.rng(), make("fork")
        return chained([self._episode(env, rng) for _ in range(part.steps // EPISODE)])

    def _episode(self, env: Any, rng: np.random.Generator) -> Rows:
        bent = int(rng.choice([-1, 1])) * rng.uniform(self.narrowest, self.widest)

        def act(seen: np.ndarray) -> np.ndarray:
            y = min(1.0, float(seen[1]) + self.pace)
            wanted = np.array([bent * math.cos(math.pi * y / 2), y]) - seen
            return np.clip(wanted + rng.normal(0.0, self.noise, 2), env.action_space.low, env.action_space.high)

        return record(env, int(rng.integers(2**31)), act, ("success", "side"))

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        last = rows["terminals"] | rows["timeouts"]
        return Dataset.from_arrays(
            **as_arguments(rows),
            action_low=-0.1,
            action_high=0.1,
            attributes={
                "name": "fork",
                "environment": "fork",
                "seed": seed,
                "successful_episodes": f"{rows['infos/success'][last].mean():.1%}",
                "episodes_right": f"{(rows['infos/side'][last] == 1).mean():.1%}",
                "noise": self.noise,
            },
        )


def suite() -> Suite:
    return Suite(
        "A fork: demonstrations that go round an obstacle on either side",
        "none: a point that moves as it is told",
        {"fork": Entry(Sides(), 200 * EPISODE, "200 episodes", 0.2, 0.02)},
    )
