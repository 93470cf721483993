"""A controller for Push-T that looks ahead: it tries pushes in simulations of its own, and walks round the block on one
side.

A push is a straight line that the disc takes from a place at the block's edge. Many are drawn and tried without the way
to them; the best are then tried as they would be done, with the way and the hand's speed. The one is taken after which
all will be done the soonest, by `steps_left`.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
import shapely
from shapely.geometry.polygon import orient

from reverie.environments.pusht import (
    AREA,
    CENTRE,
    DAMPING,
    DT,
    ENOUGH,
    GOAL,
    OUTLINE,
    RADIUS,
    SIZE,
    STIFFNESS,
    SUBSTEPS,
    Simulation,
    coverage,
    outline,
)

if TYPE_CHECKING:
    from reverie.collection.pusht import Settings

_EDGES = np.roll(OUTLINE, -1, axis=0) - OUTLINE
_LENGTHS = np.linalg.norm(_EDGES, axis=1)
_ALONG = _EDGES / _LENGTHS[:, None]
_OUT = np.stack([_ALONG[:, 1], -_ALONG[:, 0]], axis=1)
"""Normals of the edges: the outline runs with growing angles."""
_BLOCK = shapely.Polygon(OUTLINE)
_CLOSE = _BLOCK.buffer(RADIUS + 3)
shapely.prepare(_CLOSE)
_AROUND = np.array(orient(_BLOCK.convex_hull.buffer(RADIUS + 8, quad_segs=4)).exterior.coords)[:-1]
"""A walk around the block, with growing angles: `[n, 2]` in its frame."""
_GOAL_CORNERS = outline(GOAL)
_STEP = SUBSTEPS * DT
_HAND = np.array([1, 2, 3, 2, 1]) / 9
"""How a hand rounds off what it draws, and where it starts and stops: the weights of five steps."""


class Pusher:
    """Decides on one push after another."""

    def __init__(self, style: int, rng: np.random.Generator, settings: "Settings"):
        """`style` is 1 to walk around the block with growing angles (clockwise in a picture), -1 for the other way."""
        self.style, self.rng, self.settings = style, rng, settings
        slower, faster = 1 - settings.pace, 1 + settings.pace
        self.walking, self.pushing = np.array([settings.walking, settings.pushing]) * rng.uniform(slower, faster, 2)
        self._simulation = Simulation()
        self._waiting: list[np.ndarray] = []

    def act(self, simulation: Simulation) -> np.ndarray:
        """The next target, (x, y)."""
        if not self._waiting:
            self._waiting = list(self.decide(simulation))
        return self._waiting.pop(0)

    def decide(self, simulation: Simulation) -> np.ndarray:
        """Targets for the next push and the way to it: `[steps, 2]`."""
        position, pose = np.array(simulation.position), np.array(simulation.pose)
        starts, headings = self._draw(pose)
        lengths, left = self._look(pose, starts, headings)
        guess = left + np.linalg.norm(starts - position, axis=1) / self.walking
        found = []
        for i in np.argsort(guess)[: self.settings.tried]:
            walk, cost = self._walk(position, pose, starts[i])
            targets = self._targets(walk, headings[i], lengths[i])
            found.append((cost + self._try(simulation, targets), targets))
        _, chosen = min(found, key=lambda each: each[0])
        steps = np.linalg.norm(np.diff(chosen, axis=0, prepend=position[None]), axis=1)
        noise = self.rng.normal(0.0, self.settings.noise, chosen.shape) * steps[:, None]
        return np.clip(chosen + noise, 0, SIZE)

    def _draw(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where pushes start and their directions, `[n, 2]` each: those that the disc can get to."""
        n, rng, ask = self.settings.drawn, self.rng, self.settings
        edge = rng.choice(len(OUTLINE), n, p=_LENGTHS / _LENGTHS.sum())
        touched = OUTLINE[edge] + rng.uniform(size=(n, 1)) * _EDGES[edge]
        headings = turned(-_OUT[edge], rng.uniform(-ask.widest, ask.widest, n))
        touching = touched + RADIUS * _OUT[edge]
        starts = touching - ask.run_up * headings
        # In the inner corners the disc would touch the other part of the block.
        free = shapely.distance(_BLOCK, shapely.points(touching)) > RADIUS - 0.5
        free &= shapely.distance(_BLOCK, shapely.points(starts)) > RADIUS + 0.5
        starts, headings = turned(starts, pose[2]) + pose[:2], turned(headings, pose[2])
        free &= ((starts > RADIUS / 2) & (starts < SIZE - RADIUS / 2)).all(axis=1)
        if not free.any():
            return self._draw(pose)
        return starts[free], headings[free]

    def _look(self, pose: np.ndarray, starts: np.ndarray, headings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How long each push had best be, and the steps from its start until all is done, `[n]` each."""
        longest = np.clip(2 * distance(pose), 24.0, self.settings.longest)
        ways = longest * np.arange(1, 41) / 40
        poses = np.array([self._push(pose, *each, ways) for each in zip(starts, headings, strict=True)])
        left = steps_left(poses) + (self.settings.run_up + ways) / self.pushing
        best = left.argmin(axis=1)
        return ways[best], left[np.arange(len(best)), best]

    def _push(self, pose: np.ndarray, start: np.ndarray, heading: np.ndarray, ways: np.ndarray) -> list[tuple]:
        """The block's poses after so long a push. It comes to rest at once, so that the disc's speed does not count."""
        simulation = self._simulation
        simulation.place(start + self.settings.run_up * heading, pose)
        simulation.agent.velocity = tuple((heading * ways[0] / DT).tolist())
        found = []
        for _ in ways:
            simulation.space.step(DT)
            found.append(simulation.pose)
        return found

    def _walk(self, position: np.ndarray, pose: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, float]:
        """The way to where a push starts, `[n, 2]`, on the side that costs less, and what it costs above its steps."""
        here, there = (turned(each - pose[:2], -pose[2]) for each in (position, start))
        ways = [way_round(here, there, turn) for turn in (1, -1)]
        costs = [length(way) / self.walking * (self._is_against(way) * (self.settings.against - 1)) for way in ways]
        totals = [length(way) / self.walking + cost for way, cost in zip(ways, costs, strict=True)]
        cheaper = int(np.argmin(totals))
        return turned(ways[cheaper], pose[2]) + pose[:2], costs[cheaper]

    def _is_against(self, way: np.ndarray) -> bool:
        return sweep(way - CENTRE) * self.style < 0

    def _targets(self, walk: np.ndarray, heading: np.ndarray, way: float) -> np.ndarray:
        """A hand's positions that lead the disc along the walk and the push, `[steps, 2]`."""
        push = np.array([walk[-1], walk[-1] + heading * (self.settings.run_up + way)])
        drawn = np.concatenate([paced(walk, self.walking), paced(push, self.pushing)[1:]])
        path = np.pad(drawn, ((3, 3), (0, 0)), mode="edge")
        path = np.stack([np.convolve(column, _HAND, "valid") for column in path.T], axis=1)
        # The disc is 0.2 s behind a hand that moves steadily, so that it is now where the path is.
        ahead = DAMPING / STIFFNESS * np.gradient(path, _STEP, axis=0)
        return np.clip((path + ahead)[1:], 0, SIZE)

    def _try(self, simulation: Simulation, targets: np.ndarray) -> float:
        """Steps until all is done, these and those that will be left."""
        trial = Simulation()
        trial.place(simulation.position, simulation.pose)
        trial.agent.velocity = simulation.agent.velocity
        for step, target in enumerate(targets, 1):
            trial.step(target)
            if coverage(trial.pose) >= ENOUGH:
                return step
        return len(targets) + float(steps_left(np.array([trial.pose]))[0])


def distance(poses: np.ndarray) -> np.ndarray:
    """The root mean square of the corners' distances to where they belong, `[..., 3] -> [...]`."""
    return np.sqrt(((outline(poses) - _GOAL_CORNERS) ** 2).sum(axis=-1).mean(axis=-1))


def steps_left(poses: np.ndarray) -> np.ndarray:
    """About how many steps a block in these poses will take, `[..., 3] -> [...]`; none where it covers enough.

    Steep at the end, where every push is a walk around the block.
    """
    away = distance(poses)
    left = 15 + 20 * np.log1p(away / 3) + 1.2 * away
    near = away < 5
    left[near] = np.where(covered(poses[near]) > ENOUGH, 0.0, left[near])
    return left


def covered(poses: np.ndarray) -> np.ndarray:
    """`coverage` of many, `[n, 3] -> [n]`."""
    return shapely.area(shapely.intersection(shapely.polygons(outline(poses)), shapely.Polygon(_GOAL_CORNERS))) / AREA


def turned(points: np.ndarray, angle: np.ndarray | float) -> np.ndarray:
    """`[..., 2]`, turned around the origin by angles `[...]` in rad."""
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def length(line: np.ndarray) -> float:
    """Of a line through points `[n, 2]`."""
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def sweep(line: np.ndarray) -> float:
    """The angle that it goes around the origin, in rad."""
    before, after = line[:-1], line[1:]
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return float(np.arctan2(cross, (before * after).sum(axis=1)).sum())


def paced(line: np.ndarray, pace: float) -> np.ndarray:
    """Points on a line, evenly spaced by at most `pace`, from its first to its last: `[m, 2]`."""
    at = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    wanted = np.linspace(0.0, at[-1], max(1, math.ceil(at[-1] / pace)) + 1)
    return np.stack([np.interp(wanted, at, column) for column in line.T], axis=1)


def way_round(here: np.ndarray, there: np.ndarray, turn: int) -> np.ndarray:
    """From one place to another in the block's frame, `[n, 2]`: straight where nothing is between, else around the
    block with growing angles (turn 1) or falling ones (-1), straight from one point to the last that is seen from it.
    """
    if shapely.LineString([here, there]).disjoint(_CLOSE):
        return np.array([here, there])
    around = _AROUND[::turn]
    first, last = (int(np.argmin(((around - place) ** 2).sum(axis=1))) for place in (here, there))
    between = around[(first + np.arange((last - first) % len(around) + 1)) % len(around)]
    points, taken = np.concatenate([here[None], between, there[None]]), [0]
    while (at := taken[-1]) < len(points) - 1:
        later = points[at + 1 :]
        views = shapely.linestrings(np.stack([np.broadcast_to(points[at], later.shape), later], axis=1))
        hidden = ~shapely.disjoint(_CLOSE, views)
        seen = int(np.argmax(hidden)) if hidden.any() else len(later)
        taken.append(at + max(seen, 1))
    return points[taken]
