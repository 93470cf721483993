"""Teams in the particle worlds of MPE: experts by rule, with and without noise, and agents that act at random."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from reverie.collection.episodes import chained, record, whole_episodes
from reverie.collection.recipe import Entry, Part, Rows, Suite
from reverie.data import Dataset
from reverie.data.fields import unflatten
from reverie.environments.particles import EXPERTS, NAMES, STEPS
from reverie.environments.registry import make

SHARES = {"expert": 0.1, "medium": 0.6, "random": 1.0}
"""Of a force that is random, by a team's quality."""


@dataclass(frozen=True)
class Particles:
    """Whole episodes of 25 steps in one of MPE's worlds.

    Every agent is pushed by a mixture of what its rule says (`environments.particles`) and of a force uniform in its
    bounds, drawn anew at each step; nobody speaks. `infos["rewards"]` [N, A] are the agents' own rewards.
    """

    environment: str
    quality: Literal["expert", "medium", "random"]
    version: int = 2
    """Of what is recorded, under which data are kept: 1 had the worlds' own five numbers for a force."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return whole_episodes(steps, STEPS, 200, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng, env = part.rng(), make(self.environment)
        return chained([self._episode(env, rng) for _ in range(part.steps // STEPS)])

    def _episode(self, env: Any, rng: np.random.Generator) -> Rows:
        share, expert = SHARES[self.quality], EXPERTS[self.environment]
        agents, size = env.action_space.shape

        def act(seen: np.ndarray) -> np.ndarray:
            force = (1 - share) * expert(env.env) + share * rng.uniform(-1, 1, (agents, 2))
            return np.pad(np.clip(force, -1, 1), [(0, 0), (0, size - 2)])

        return record(env, int(rng.integers(2**31)), act, ("rewards",))

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        env = make(self.environment)
        return Dataset.from_arrays(
            **unflatten(rows),
            action_low=env.action_space.low,  # type: ignore[attr-defined]
            action_high=env.action_space.high,  # type: ignore[attr-defined]
            attributes={
                "name": f"{self.environment}-{self.quality}",
                "environment": self.environment,
                "seed": seed,
                "observation_sizes": env.observation_sizes,  # type: ignore[attr-defined]
                "action_sizes": env.action_sizes,  # type: ignore[attr-defined]
            },
        )


def suite() -> Suite:
    megabytes = {"mpe-spread": 16.0, "mpe-tag": 16.0, "mpe-world": 41.0}
    minutes = {"mpe-spread": 0.2, "mpe-tag": 0.3, "mpe-world": 1.0}
    return Suite(
        "Particle worlds: teams that go by rules of ours",
        "mpe2, MIT",
        {
            f"{name}-{quality}": Entry(
                Particles(name, quality),  # type: ignore[arg-type]
                2000 * STEPS,
                f"2,000 episodes, {round(100 * share)} % of the forces random",
                megabytes[name],
                minutes[name],
            )
            for name in NAMES
            for quality, share in SHARES.items()
        },
    )
