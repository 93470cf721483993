"""Demonstrations of Push-T by a controller that looks ahead, in two styles."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from reverie.collection.episodes import chained, record, whole_episodes
from reverie.collection.recipe import Entry, Part, Rows, Suite
from reverie.data import Dataset
from reverie.data.fields import unflatten
from reverie.environments.registry import make

EPISODE = 110
"""Steps of one, about."""
STYLES = (1, -1)


@dataclass(frozen=True)
class Settings:
    """Of the controller. Lengths are in the workspace's units, of which it has 512."""

    drawn: int = 400
    """Pushes that are looked at, a decision."""
    tried: int = 12
    """Of them, tried as they would be done."""
    walking: float = 16.0
    """Way of a step, without touching."""
    pushing: float = 9.0
    pace: float = 0.15
    """Both are drawn for each episode, up to this share off."""
    longest: float = 160.0
    """Push."""
    widest: float = 0.9
    """Angle in rad between push and the edge's normal."""
    run_up: float = 6.0
    """From where the disc aims to where it touches."""
    against: float = 4.0
    """Times that a walk against the style costs what it would with it."""
    noise: float = 0.1
    """Standard deviation of a target, as a share of the way since the one before: a fast hand is an inexact one."""


@dataclass(frozen=True)
class Demonstrations:
    """Whole episodes, as many as come nearest to the steps; each has its own start and its own style.

    `infos["style"]` [N] is 1 where the episode's hand goes round the block with growing angles (clockwise in a
    picture), -1 where it goes the other way; `infos["coverage"]` and `infos["success"]` [N] are the environment's,
    after the step. The set with images has no `next_observations`, which would hold every image twice.
    """

    name: str
    """"pusht" or "pusht-images"."""
    settings: Settings = Settings()
    together: int = 5
    """Episodes of a part."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return whole_episodes(steps, EPISODE, self.together, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng, env = part.rng(), make(self.name)
        rows = chained([self._episode(env, rng) for _ in range(part.steps // EPISODE)])
        return {key: column for key, column in rows.items() if not key.startswith("next_observations/")}

    def _episode(self, env: Any, rng: np.random.Generator) -> Rows:
        from reverie.collection.pushing import Pusher

        style = int(rng.choice(STYLES))
        pusher = Pusher(style, rng, self.settings)
        start = int(rng.integers(2**31))
        rows = record(env, start, lambda _: pusher.act(env.unwrapped.simulation), ("coverage", "success"))
        return rows | {"infos/style": np.full(len(rows["actions"]), style, np.int32)}

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        first = np.flatnonzero(np.r_[True, (rows["terminals"] | rows["timeouts"])[:-1]])
        successes = np.logical_or.reduceat(rows["infos/success"], first)
        best, styles = np.maximum.reduceat(rows["rewards"], first), rows["infos/style"][first]
        told = {
            f"best_reward_{name}": f"{best[styles == style].mean():.3f}"
            for name, style in (("clockwise", 1), ("anticlockwise", -1))
            if (styles == style).any()
        }
        return Dataset.from_arrays(
            **unflatten(rows),
            action_low=0.0,
            action_high=512.0,
            attributes={
                "name": self.name,
                "environment": self.name,
                "seed": seed,
                "controller": "pushes that are tried in a simulation, in two styles",
                "successful_episodes": f"{successes.mean():.1%}",
                **told,
                "pymunk": version("pymunk"),
                "shapely": version("shapely"),
            },
        )


def suite() -> Suite:
    about = "200 episodes; a controller that looks ahead, going round the block either way"
    return Suite(
        "Push-T: demonstrations in two styles",
        "Push-T's task (MIT) on pymunk (MIT) and shapely (BSD)",
        {
            name: Entry(Demonstrations(name), 200 * EPISODE, f"{about}{what}", size, minutes)
            for name, what, size, minutes in (
                ("pusht", "", 1, 0.9),
                ("pusht-images", "; images of 64 x 64", 7, 1.1),
            )
        },
    )
