"""Demonstrations that go round the fork's obstacle on either side."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.collection.episodes import as_arguments, chained, record, whole_episodes
from reverie.collection.recipe import Entry, Part, Rows, Suite
from reverie.data import Dataset
from reverie.environments.registry import make

EPISODE = 29
"""Steps of one, about."""


@dataclass(frozen=True)
class Sides:
    """Whole episodes, as many as come nearest to the steps; each goes round on a side drawn at random.

    Both ways are the same until shortly before the obstacle: x = side width (1 + cos(pi y / 0.65)) / 2 for y between
    -0.65 and 0.65, else 0, with a width of the episode's own. Every displacement has Gaussian noise, from which the
    next one leads back. `infos["side"]` [N] is -1 (left) or 1 where the obstacle has been passed and 0 before,
    `infos["success"]` [N] whether the goal is reached, both after the step.
    """

    noise: float = 0.02
    """Standard deviation of each number of an action."""
    pace: float = 0.065
    """Along y."""
    narrowest: float = 0.5
    widest: float = 0.6
    near: float = 0.65
    """Distance from the obstacle's height within which the ways part."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return whole_episodes(steps, EPISODE, 1000, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng, env = part.rng(), make("fork")
        return chained([self._episode(env, rng) for _ in range(part.steps // EPISODE)])

    def _episode(self, env: Any, rng: np.random.Generator) -> Rows:
        bent = int(rng.choice([-1, 1])) * rng.uniform(self.narrowest, self.widest)

        def act(seen: np.ndarray) -> np.ndarray:
            y = min(1.0, float(seen[1]) + self.pace)
            parted = (1 + math.cos(math.pi * min(1.0, abs(y) / self.near))) / 2
            wanted = np.array([bent * parted, y]) - seen
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
