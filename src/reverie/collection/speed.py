"""Episodes on a line at random speeds, with what they cost."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.collection.episodes import chained, record, whole_episodes
from reverie.collection.recipe import Entry, Part, Rows, Suite
from reverie.data import Dataset
from reverie.data.fields import unflatten
from reverie.environments.registry import make
from reverie.environments.speed import FASTEST, GAIN, LIMIT


@dataclass(frozen=True)
class RandomSpeeds:
    """Whole episodes, each by a controller that keeps one speed up to a step drawn at random, and then another.

    Both speeds are uniform in 0..1, so that what is still to come does not follow from what was. Every action has
    Gaussian noise.
    """

    noise: float = 0.1
    """Standard deviation of an action's."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return whole_episodes(steps, LIMIT, 1000, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng, env = part.rng(), make("speed")
        return chained([self._episode(env, rng) for _ in range(part.steps // LIMIT)])

    def _episode(self, env: Any, rng: np.random.Generator) -> Rows:
        first, second = rng.uniform(0.0, FASTEST, 2)
        changes = rng.integers(LIMIT)

        def act(seen: np.ndarray) -> np.ndarray:
            wanted = first if round(LIMIT * (1 - float(seen[1]))) < changes else second
            return np.clip((wanted - seen[:1]) / GAIN + rng.normal(0.0, self.noise, 1), -1.0, 1.0)

        return record(env, int(rng.integers(2**31)), act, ())

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        attributes = {"name": "speed", "environment": "speed", "seed": seed, "noise": self.noise}
        return Dataset.from_arrays(**unflatten(rows), action_low=-1.0, action_high=1.0, attributes=attributes)


def suite() -> Suite:
    return Suite(
        "A point on a line that is paid for its speed, which is also what it costs",
        "none: a point that moves as it is told",
        {"speed": Entry(RandomSpeeds(), 1000 * LIMIT, "1000 episodes at random speeds", 1.3, 0.05)},
    )
