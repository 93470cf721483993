"""Demonstrations that go round the fork's obstacle on either side, halves of such ways, and pictures of it that look
different."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from reverie.collection.episodes import chained, record, whole_episodes
from reverie.collection.recipe import Entry, Part, Rows, Suite, cut
from reverie.data import Dataset
from reverie.data.fields import unflatten
from reverie.environments.fork import FARTHEST, SIZE
from reverie.environments.registry import make

EPISODE = 29
"""Steps of one, about."""
PICTURES = 4000


@dataclass(frozen=True)
class Sides:
    """Whole episodes, as many as come nearest to the steps; each goes round on a side drawn at random.

    Both ways are the same until shortly before the obstacle: x = side width (1 + cos(pi y / 0.65)) / 2 for y between
    -0.65 and 0.65, else 0, with a width of the episode's own. Every displacement has Gaussian noise, from which the
    next one leads back. `infos["side"]` [N] is -1 (left) or 1 where the obstacle has been passed and 0 before,
    `infos["success"]` [N] whether the goal is reached, both after the step.
    """

    name: ClassVar[str] = "fork"

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
        rng, env = part.rng(), make(self.name)
        return chained([self._episode(env, rng) for _ in range(part.steps // EPISODE)])

    def _episode(self, env: Any, rng: np.random.Generator) -> Rows:
        bent = int(rng.choice([-1, 1])) * rng.uniform(self.narrowest, self.widest)

        def act(_: np.ndarray) -> np.ndarray:
            seen = env.unwrapped.position.astype(np.float32)
            wanted = way(bent, float(seen[1]) + self.pace, self.near) - seen
            return np.clip(wanted + rng.normal(0.0, self.noise, 2), env.action_space.low, env.action_space.high)

        return self._record(env, int(rng.integers(2**31)), act)

    def _record(self, env: Any, start: int, act: Callable[[Any], np.ndarray]) -> Rows:
        return record(env, start, act, ("success", "side"))

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        last = rows["terminals"] | rows["timeouts"]
        return Dataset.from_arrays(
            **unflatten(rows),
            action_low=-0.1,
            action_high=0.1,
            attributes={
                "name": self.name,
                "environment": self.name,
                "seed": seed,
                "successful_episodes": f"{rows['infos/success'][last].mean():.1%}",
                "episodes_right": f"{(rows['infos/side'][last] == 1).mean():.1%}",
                "noise": self.noise,
            },
        )


@dataclass(frozen=True)
class SidesInPictures(Sides):
    """The same in images, with `infos["position"]` [N, 2], which they show, `infos["has_actions"]`, 1, and no
    `next_observations`, which would hold every image twice."""

    name: ClassVar[str] = "fork-images"

    def _record(self, env: Any, start: int, act: Callable[[Any], np.ndarray]) -> Rows:
        places = []

        def noting(seen: Any) -> np.ndarray:
            places.append(env.unwrapped.position.astype(np.float32))
            return act(seen)

        rows = super()._record(env, start, noting)
        del rows["next_observations"]
        return rows | {"infos/position": np.stack(places), "infos/has_actions": np.ones(len(places), np.int32)}


def way(bent: float, y: float, near: float) -> np.ndarray:
    """The place at this height of a way round the obstacle that is so wide."""
    y = min(1.0, y)
    return np.array([bent * (1 + math.cos(math.pi * min(1.0, abs(y) / near))) / 2, y])


@dataclass(frozen=True)
class Halves:
    """Halves of ways from the start to the goal, on the right; nobody goes all the way. What they share are the places
    beside the obstacle.

    Every other episode starts at the start, is beside the obstacle after its half, and goes astray from there, outwards
    to the edge; its rewards are 0. The others come in from the edge, and go on to the goal beyond. An episode that goes
    astray is cut after `EPISODE` steps. `infos["half"]` [N] is 0 and 1.
    """

    noise: float = 0.02
    """Standard deviation of each number of an action."""
    pace: float = 0.065
    """In displacement a step."""
    edge: float = 1.3
    """Distance from the middle at which those who go astray stay, and from which the others come."""
    wide: float = 0.55
    """Distance from the middle beside the obstacle."""
    near: float = 0.65
    overlap: float = 0.1
    """Height above and below the middle up to which halves are left and joined."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return whole_episodes(steps, EPISODE, 1000, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng, env = part.rng(), make("fork")
        return chained([self._episode(env, rng, i % 2) for i in range(part.steps // EPISODE)])

    def _episode(self, env: Any, rng: np.random.Generator, half: int) -> Rows:
        height, astray = rng.uniform(0, self.overlap), [half == 1]

        def act(seen: np.ndarray) -> np.ndarray:
            x, y = seen.tolist()
            if half == 0 and y >= height:
                astray[0] = True
            if half == 1 and x <= self.wide + self.pace:
                astray[0] = False
            if astray[0]:
                wanted = np.array([(self.wide if half else self.edge) - x, (-height if half else height) - y])
                wanted = np.clip(wanted, -self.pace, self.pace)
            else:
                wanted = way(self.wide, y + self.pace, self.near) - seen
            return np.clip(wanted + rng.normal(0.0, self.noise, 2), -FARTHEST, FARTHEST)

        seed, start = int(rng.integers(2**31)), {"position": (self.edge, -height)}
        cut: dict[str, Any] = {"options": start} if half else {"most": EPISODE}
        rows = record(env, seed, act, ("success",), **cut)
        return rows | {"infos/half": np.full(len(rows["rewards"]), half, np.int32)}

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        arrived = rows["infos/success"][rows["terminals"] | rows["timeouts"]]
        attributes = {"name": "fork-halves", "environment": "fork", "seed": seed, "noise": self.noise}
        return Dataset.from_arrays(
            **unflatten(rows),
            action_low=-FARTHEST,
            action_high=FARTHEST,
            attributes=attributes | {"successful_episodes": f"{arrived.mean():.1%}"},
        )


@dataclass(frozen=True)
class Looks:
    """Pictures of the fork without actions: in each the point is anywhere, and the look another one.

    Every row is an episode. `infos["position"]` [N, 2] is the point's, and `infos["has_actions"]` is 0: what stands for
    the actions, and for rewards, is 0.
    """

    def parts(self, steps: int, seed: int) -> list[Part]:
        return cut(steps, 1000, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        from reverie.environments.fork_images import draw, draw_look

        rng = part.rng()
        places = rng.uniform(-SIZE, SIZE, (part.steps, 2)).astype(np.float32)
        return {"observations": np.stack([draw(place, draw_look(rng)) for place in places]), "infos/position": places}

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        rows = rows | {"infos/has_actions": np.zeros(steps, np.int32)}
        return Dataset.from_arrays(
            **unflatten(rows),
            actions=np.zeros((steps, 2)),
            rewards=np.zeros(steps),
            terminals=np.zeros(steps),
            timeouts=np.ones(steps),
            action_low=-FARTHEST,
            action_high=FARTHEST,
            attributes={"name": "fork-looks", "environment": "fork-images", "seed": seed},
        )


def suite() -> Suite:
    about = "200 episodes"
    return Suite(
        "A fork: demonstrations that go round an obstacle on either side",
        "none: a point that moves as it is told",
        {
            "fork": Entry(Sides(), 200 * EPISODE, about, 0.2, 0.02),
            "fork-halves": Entry(Halves(), 400 * EPISODE, "400 halves of ways, none from start to goal", 0.6, 0.02),
            "fork-images": Entry(SidesInPictures(), 200 * EPISODE, f"{about}; images of 24 x 24", 0.5, 0.03),
            "fork-looks": Entry(Looks(), PICTURES, "images that look different, without actions", 5, 0.02),
        },
    )
