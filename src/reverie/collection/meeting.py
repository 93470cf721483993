"""Demonstrations of two agents that meet at either of two places."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.collection.episodes import chained, record, whole_episodes
from reverie.collection.recipe import Entry, Part, Rows, Suite
from reverie.data import Dataset
from reverie.data.fields import unflatten
from reverie.environments.meeting import FARTHEST, LIMIT
from reverie.environments.registry import make


@dataclass(frozen=True)
class Meetings:
    """Whole episodes, as many as come nearest to the steps; in each both agents go to one place, drawn at random.

    Each agent has a pace of its own. Every displacement has Gaussian noise. `infos["places"]` [N, 2] says who has
    arrived where after the step, and `infos["success"]` [N] whether they have met.
    """

    noise: float = 0.02
    """Standard deviation of an action."""
    slowest: float = 0.11
    fastest: float = 0.14
    """Paces, in displacement a step."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return whole_episodes(steps, LIMIT, 1000, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng, env = part.rng(), make("meeting")
        return chained([self._episode(env, rng) for _ in range(part.steps // LIMIT)])

    def _episode(self, env: Any, rng: np.random.Generator) -> Rows:
        pace = rng.choice([-1, 1]) * rng.uniform(self.slowest, self.fastest, (2, 1))

        def act(seen: np.ndarray) -> np.ndarray:
            return np.clip(pace + rng.normal(0.0, self.noise, (2, 1)), -FARTHEST, FARTHEST)

        return record(env, int(rng.integers(2**31)), act, ("success", "places"))

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        last = rows["terminals"] | rows["timeouts"]
        return Dataset.from_arrays(
            **unflatten(rows),
            action_low=-FARTHEST,
            action_high=FARTHEST,
            attributes={
                "name": "meeting",
                "environment": "meeting",
                "seed": seed,
                "successful_episodes": f"{rows['infos/success'][last].mean():.1%}",
                "episodes_right": f"{(rows['infos/places'][last] == 1).all(-1).mean():.1%}",
                "noise": self.noise,
            },
        )


def suite() -> Suite:
    return Suite(
        "A meeting: demonstrations of two agents that go to the same of two places",
        "none: points that move as they are told",
        {"meeting": Entry(Meetings(), 400 * LIMIT, "400 episodes", 0.3, 0.02)},
    )
