"""OGBench's pointmaze and antmaze sets by its recipe: the shortest way's direction, an agent that follows it, noise.

navigate: from any free cell to goals in cells that are no corridor's, a new one whenever one is reached. stitch: to a
cell four steps away, where the agent then stays: a way through the maze is longer than any one episode.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reverie.collection.locomotion import SHIPPED
from reverie.collection.ogbench.course import Course, Position
from reverie.collection.ogbench.naming import regenerated
from reverie.collection.recipe import Part, Rows, cut
from reverie.data import Dataset
from reverie.environments.policies import Policy
from reverie.environments.registry import make
from reverie.errors import DataError
from reverie.evaluation.acting import RunPolicy
from reverie.training import load

PART = 20_000
"""Steps of a part, about."""
STEP = 0.2
"""What an action of 1 adds to the point's position, in m, before the simulator moves it."""
AGENT = SHIPPED / "ant-xy.safetensors"
"""A run whose policy moves the ant in a direction: it acts on the ant's state without its position, and on a vector of
length 1 behind it."""
TOGETHER = 10
"""Ants stepped together."""


class Point:
    """The point in the simulator, below the environment's wrappers: the same physics at several times the speed."""

    def __init__(self, name: str):
        import mujoco

        self._mujoco, self._env = mujoco, make(name)  # the environment must outlive the model's arrays
        inner: Any = self._env.unwrapped
        self.model, self.data, self._frames, self.course = inner.model, inner.data, inner.frame_skip, Course.of(inner)
        self._qpos, self._qvel = self.data.qpos, self.data.qvel
        portals = inner._teleport_info
        self._entries: list[Position] = portals["teleport_in_xys"] if portals else []
        self._exits: list[Position] = portals["teleport_out_xys"] if portals else []
        self._radius = portals["teleport_radius"] * 1.5 if portals else 0.0
        self.tolerance: float = inner._goal_tol

    def reset(self, position: Position, velocity: Position) -> None:
        self._mujoco.mj_resetData(self.model, self.data)
        self.put(position, velocity)

    def put(self, position: Position, velocity: Position | None = None) -> None:
        self._qpos[:] = position
        if velocity is not None:
            self._qvel[:] = velocity
        self._mujoco.mj_forward(self.model, self.data)

    def step(self, action: Position) -> list[float]:
        """Where it comes to, (x, y)."""
        self._qpos[0] += STEP * action[0]
        self._qpos[1] += STEP * action[1]
        self._qvel[:] = 0.0
        self._mujoco.mj_step(self.model, self.data, nstep=self._frames)
        return self._qpos.tolist()

    def velocity(self) -> list[float]:
        return self._qvel.tolist()

    def enters(self, x: float, y: float) -> bool:
        """Whether it is at a portal, from which it comes out at one of the exits."""
        return any(math.hypot(x - u, y - v) <= self._radius for u, v in self._entries)

    def come_out(self, rng: np.random.Generator) -> list[float]:
        self.put(self._exits[rng.integers(len(self._exits))])
        return self._qpos.tolist()


@dataclass(frozen=True)
class Maze:
    """What point and ant have in common: the recipe of one set."""

    name: str
    """pointmaze-MAZE-KIND or antmaze-MAZE-KIND."""
    length: int
    """Steps of an episode."""
    stream: int = 0
    """Of the seed's random numbers: 0 of the set, 1 of the one for validation."""

    @property
    def environment(self) -> str:
        return self.name.rsplit("-", 1)[0] + "-v0"

    @property
    def kind(self) -> str:
        return self.name.rsplit("-", 1)[1]

    def parts(self, steps: int, seed: int) -> list[Part]:
        return cut(steps, max(1, PART // self.length) * self.length, seed)

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        about = {"action_noise": self.noise, **self.about()}  # type: ignore[attr-defined]
        return regenerated(self.name, self.environment, rows, seed, bool(self.stream), about)

    def about(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class PointMaze(Maze):
    """The point goes where it is pointed."""

    noise: float = 0.5
    """Standard deviation of what is added to each component of an action, before clipping to [-1, 1]."""

    def collect(self, part: Part, progress: bool = False) -> Rows:
        point, rng = Point(self.environment), part.rng(self.stream)
        rows, left = [], part.steps
        while left:
            episode = [row for row, _ in point_episode(point, self.kind, min(self.length, left), self.noise, rng)]
            rows.append(np.array(episode, np.float32))
            left -= len(episode)
        flat = np.concatenate(rows)
        names = ("observations", "actions", "next_observations", "qpos", "qvel")
        columns = dict(zip(names, np.split(flat, 5, axis=1), strict=True))
        return columns | {"timeouts": ended([len(episode) for episode in rows])}


def point_episode(
    point: Point, kind: str, steps: int, noise: float, rng: np.random.Generator
) -> Iterator[tuple[tuple[float, ...], Position]]:
    """Rows of observation, action, next observation, position and velocity, 2 numbers each; and the goal in force.

    The observation is the position, except after a portal: it is then still the one that led into it.
    """
    course = point.course
    start, goal = course.draw_trip(kind, rng)
    point.reset(start, tuple(rng.normal(0, 0.1, 2)))  # type: ignore[arg-type]  # a pair
    seen = place = list(start)
    for nx, ny in rng.normal(0.0, noise, (steps, 2)).tolist():
        dx, dy = course.direction(place[0], place[1], goal)
        action = min(1.0, max(-1.0, dx + nx)), min(1.0, max(-1.0, dy + ny))
        velocity = point.velocity()
        after = point.step(action)
        yield (*seen, *action, *after, *place, *velocity), goal
        seen = place = after
        reached = math.hypot(after[0] - goal[0], after[1] - goal[1]) <= point.tolerance
        if point.enters(*after):
            place = point.come_out(rng)
        if reached and kind == "navigate":
            goal = course.draw(course.vertices, rng)[1]


def ended(lengths: list[int]) -> np.ndarray:
    """True at the last row of each of the episodes, one after another."""
    flags = np.zeros(sum(lengths), bool)
    flags[np.cumsum(lengths) - 1] = True
    return flags


def ant_policy(agent: Path, seed: int) -> Policy:
    """The run in a file or folder. Raises DataError where it does not act on the ant's state and a direction."""
    run = load(agent)
    found = run.spec.observation_space
    if getattr(found, "shape", None) != (29,):
        raise DataError(f"The agent in {str(agent)!r} acts on {found}, and the ant's state and a direction are 29.")
    return RunPolicy(run, seed)


@dataclass(frozen=True)
class AntMaze(Maze):
    """An ant that was trained to run in a direction, acting without its own noise."""

    noise: float = 0.2
    """Standard deviation of what is added to each component of an action, before clipping to [-1, 1]."""
    agent: Path = field(default=AGENT, repr=False)
    """A run in a file."""

    @property
    def files(self) -> list[Path]:
        return [self.agent]

    def about(self) -> dict[str, Any]:
        return {"agent": self.agent.stem}

    def collect(self, part: Part, progress: bool = False) -> Rows:
        rng = part.rng(self.stream)
        policy = ant_policy(self.agent, int(rng.integers(2**31)))
        whole, rest = divmod(part.steps, self.length)
        envs = [make_ant(self.environment) for _ in range(min(TOGETHER, whole + bool(rest)))]
        lengths = [self.length] * whole + [rest] * bool(rest)
        rows: list[Rows] = []
        for first in range(0, len(lengths), len(envs)):
            some = lengths[first : first + len(envs)]
            made = ant_episodes(envs[: len(some)], policy, self.kind, max(some), self.noise, rng)
            rows += [{key: column[:n, i] for key, column in made.items()} for i, n in enumerate(some)]
        for env in envs:
            env.close()
        columns = {key: np.concatenate([each[key] for each in rows]) for key in rows[0]}
        return columns | {"timeouts": ended(lengths)}


def make_ant(name: str) -> Any:
    """Its episodes go on at the goal, and for as long as they are stepped."""
    from reverie.environments import ogbench

    return ogbench.make(name, terminate_at_goal=False, max_episode_steps=10**9)


def ant_episodes(
    envs: list[Any], policy: Policy, kind: str, steps: int, noise: float, rng: np.random.Generator
) -> Rows:
    """One episode in each environment, side by side: columns [steps, E, ...] in float32."""
    course = Course.of(envs[0])
    trips = [_Trip(course, kind, env, rng) for env in envs]
    policy.reset(len(envs))
    columns: dict[str, list[np.ndarray]] = {}
    draws = rng.normal(0.0, noise, (steps, len(envs), 8))
    note = partial(_note, columns)
    for noises in draws:
        shown = np.stack([trip.shown() for trip in trips]).astype(np.float32)
        actions = np.clip(np.asarray(policy.act(shown), np.float64) + noises, -1.0, 1.0)
        note("observations", [trip.seen for trip in trips])
        note("actions", list(actions))
        states = [trip.step(action, rng) for trip, action in zip(trips, actions, strict=True)]
        note("qpos", [state[0] for state in states])
        note("qvel", [state[1] for state in states])
        note("next_observations", [trip.seen for trip in trips])
    return {key: np.stack(column) for key, column in columns.items()}


def _note(columns: dict[str, list[np.ndarray]], key: str, values: list[np.ndarray]) -> None:
    columns.setdefault(key, []).append(np.stack(values).astype(np.float32))


class _Trip:
    """One ant on its way."""

    def __init__(self, course: Course, kind: str, env: Any, rng: np.random.Generator):
        self._course, self._kind, self._env = course, kind, env
        start, goal = course.draw_trip(kind, rng)
        cells = {"init_ij": course.cell(*start), "goal_ij": course.cell(*goal)}
        self.seen, _ = env.reset(seed=int(rng.integers(2**31)), options={"task_info": cells})
        env.unwrapped.set_xy(np.array(start))
        self.seen = env.unwrapped.get_ob()
        self._aim(goal)

    def _aim(self, goal: Position) -> None:
        self.goal = goal
        self._env.unwrapped.set_goal(goal_xy=goal)

    def shown(self) -> np.ndarray:
        """What the agent acts on."""
        state = self._env.unwrapped.get_ob()
        return np.concatenate([state[2:], self._course.direction(state[0], state[1], self.goal)])

    def step(self, action: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The state before it: positions and velocities."""
        self.seen, _, _, _, info = self._env.step(action)
        if info["success"] and self._kind == "navigate":
            self._aim(self._course.draw(self._course.vertices, rng)[1])
        return info["prev_qpos"], info["prev_qvel"]
