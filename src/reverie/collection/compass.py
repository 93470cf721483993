"""Demonstrations of the compass's eight tasks, at all paces."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.collection.episodes import chained, record
from reverie.collection.recipe import Entry, Rows, Suite, TaskPart, by_task
from reverie.data import Dataset
from reverie.data.fields import unflatten
from reverie.environments.compass import FARTHEST, GOALS, LIMIT, TASKS
from reverie.environments.registry import make


@dataclass(frozen=True)
class Goings:
    """Whole episodes, equally many of each task, that go straight to its goal at a pace of their own.

    The slowest do not arrive. Every displacement has Gaussian noise, from which the next one leads back.
    `infos["task"]` [N] is the number of a step's task and the attribute "tasks" lists them; `infos["success"]` [N] says
    whether the point is at the goal after the step.
    """

    noise: float = 0.02
    """Standard deviation of each number of an action."""
    slowest: float = 0.02
    fastest: float = 0.1
    """Paces, in displacement a step, drawn uniformly."""

    def parts(self, steps: int, seed: int) -> list[TaskPart]:
        episodes = max(1, round(steps / LIMIT / len(TASKS)))
        return by_task(episodes * LIMIT * len(TASKS), len(TASKS), 1000 * LIMIT, seed)

    def collect(self, part: TaskPart, progress: bool = False) -> Rows:
        rng, env = part.rng(), make("compass")
        made = chained([self._episode(env, part.task, rng) for _ in range(part.steps // LIMIT)])
        return made | {"infos/task": np.full(part.steps, part.task, np.int32)}

    def _episode(self, env: Any, task: int, rng: np.random.Generator) -> Rows:
        pace, env.episode = rng.uniform(self.slowest, self.fastest), task

        def act(seen: np.ndarray) -> np.ndarray:
            way = GOALS[task] - seen
            pushed = way * min(1.0, pace / max(float(np.linalg.norm(way)), 1e-6)) + rng.normal(0.0, self.noise, 2)
            return np.clip(pushed, -FARTHEST, FARTHEST)

        return record(env, int(rng.integers(2**31)), act, ("success",))

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        arrived = np.logical_or.reduceat(rows["infos/success"], np.flatnonzero(np.r_[True, rows["timeouts"][:-1]]))
        return Dataset.from_arrays(
            **unflatten(rows),
            action_low=-FARTHEST,
            action_high=FARTHEST,
            attributes={
                "name": "compass",
                "environment": "compass",
                "tasks": list(TASKS),
                "seed": seed,
                "successful_episodes": f"{arrived.mean():.1%}",
                "noise": self.noise,
            },
        )


def suite() -> Suite:
    return Suite(
        "A compass: demonstrations of eight tasks in one set, which what is observed does not tell apart",
        "none: a point that moves as it is told",
        {"compass": Entry(Goings(), 8 * 50 * LIMIT, "50 episodes of each of 8 tasks", 0.8, 0.02)},
    )
