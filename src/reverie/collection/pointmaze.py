"""Data collected in the point mazes, in the protocol of D4RL's maze2d sets.

They are regenerated; they are not D4RL's files and their scores do not compare with D4RL's.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from reverie.collection.recipe import Entry, Part, Rows, Suite, cut
from reverie.data import Dataset
from reverie.environments.pointmaze import (
    GOAL_NOISE,
    GOAL_RADIUS,
    SPEED_LIMIT,
    Maze,
    Position,
    Settings,
    State,
    WaypointController,
    find_maze,
)
from reverie.environments.registry import make


class Point:
    """The ball in the simulator, below the environment's wrappers: the same physics at several times the speed."""

    def __init__(self, maze: Maze, position: Position):
        import mujoco

        self._step = mujoco.mj_step
        self._env = make(maze.name)  # the environment must outlive the model's arrays
        self._env.reset(seed=0)
        self.model, self.data = self._env.unwrapped.model, self._env.unwrapped.data  # type: ignore[attr-defined]
        mujoco.mj_resetData(self.model, self.data)
        self._qpos, self._qvel, self._ctrl = self.data.qpos, self.data.qvel, self.data.ctrl
        self.place(position)

    def place(self, position: Position) -> None:
        """Puts the ball there, at rest."""
        self._qpos[:], self._qvel[:] = position, 0.0

    def step(self, action: Position) -> State:
        """Applies a force in [-1, 1] for 0.01 s and returns (x, y, vx, vy)."""
        self._ctrl[0], self._ctrl[1] = action
        self._step(self.model, self.data)
        x, y = self._qpos.tolist()
        vx, vy = self._qvel.tolist()
        if abs(vx) > SPEED_LIMIT or abs(vy) > SPEED_LIMIT:
            # The environment shows the velocity as it is and clips it before the next step.
            np.clip(self._qvel, -SPEED_LIMIT, SPEED_LIMIT, out=self._qvel)
        return x, y, vx, vy


def draw_position(maze: Maze, rng: np.random.Generator) -> Position:
    """A random free cell's centre with uniform noise of `GOAL_NOISE`, as the environment draws starts and goals."""
    x, y = maze.centre(maze.free[rng.integers(len(maze.free))])
    dx, dy = rng.uniform(-GOAL_NOISE, GOAL_NOISE, 2).tolist()
    return x + dx, y + dy


def draw_goal(maze: Maze, rng: np.random.Generator, x: float, y: float) -> Position:
    """A position drawn by `draw_position` that is not reached already from (x, y)."""
    while True:
        goal = draw_position(maze, rng)
        if math.hypot(goal[0] - x, goal[1] - y) > GOAL_RADIUS:
            return goal


def rollout(maze: Maze, settings: Settings, seed: int | list[int], chunk: int = 10_000) -> Iterator[np.ndarray]:
    """One endless rollout, in chunks of float64 [chunk, 8]: state (4), action (2), goal (2).

    A trip ends on the step that brings the ball within `settings.reach` of the goal; the next goal is drawn there and
    then, and the ball goes on with the velocity it has. Nothing is ever reset.
    """
    places, noises = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    controller = WaypointController(maze, settings, places)
    state = (*draw_position(maze, places), 0.0, 0.0)
    point, goal = Point(maze, state[:2]), draw_goal(maze, places, *state[:2])
    while True:
        rows = []
        for nx, ny in noises.normal(0.0, settings.noise, (chunk, 2)).tolist():
            ax, ay = controller.action(state, goal)
            ax, ay = min(1.0, max(-1.0, ax + nx)), min(1.0, max(-1.0, ay + ny))
            after = point.step((ax, ay))
            rows.append((*state, ax, ay, *goal))
            state = after
            if math.hypot(after[0] - goal[0], after[1] - goal[1]) <= settings.reach:
                goal = draw_goal(maze, places, state[0], state[1])
        yield np.array(rows)


ROLLOUT = 100_000
"""Steps of one rollout; a set of more has several, each cut by a timeout."""


@dataclass(frozen=True)
class PointMaze:
    """The protocol of D4RL's maze2d sets: rollouts from goal to goal, never reset.

    `infos["goal"]` [N, 2] is the goal in force at each step; it changes after the step that reaches it (within
    `settings.reach`, 0.1 m). The ball rolls on, so a rollout is one episode: a window may begin on the way to one goal
    and end on the way to the next. There are no terminals. `rewards` are the environment's: 1 where the position
    after the step lies within 0.45 m of the goal in force, else 0. Of a maze with one goal the ball's ways are the
    same, and `rewards` and `infos["goal"]` are that goal's, as in D4RL's sets.
    """

    name: str
    """A key of `MAZES`."""
    settings: Settings = Settings()
    """Of the controller; the defaults are those of D4RL's generator with its noise on."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return cut(steps, ROLLOUT, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        # One row more than asked for: the state after the last step.
        maze = find_maze(self.name)
        chunks = rollout(maze, self.settings, [part.seed, part.index] if part.index else part.seed)
        flat = _first(chunks, part.steps + 1)
        states, actions, goals = flat[:, :4], flat[:-1, 4:6], flat[:-1, 6:8]
        if maze.goal is not None:
            goals = np.broadcast_to(maze.centre(maze.goal), goals.shape)
        return {
            "observations": states[:-1],
            "actions": actions,
            "rewards": np.linalg.norm(states[1:, :2] - goals, axis=1) <= GOAL_RADIUS,
            "next_observations": states[1:],
            "timeouts": np.arange(part.steps) == part.steps - 1,
            "goal": goals,
        }

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        goals, settings = rows.pop("goal"), self.settings
        return Dataset.from_arrays(
            **rows,
            terminals=np.zeros(steps, bool),
            infos={"goal": goals.astype(np.float32)},
            action_low=-1.0,
            action_high=1.0,
            attributes={
                "name": self.name,
                "environment": find_maze(self.name).environment,
                "steps": steps,
                "seed": seed,
                "controller_kp": settings.kp,
                "controller_kd": settings.kd,
                "controller_reach": settings.reach,
                "controller_noise": settings.noise,
                "controller_jitter": settings.jitter,
                "statement": "regenerated; not a D4RL data set",
            },
        )


def _first(chunks: Iterator[np.ndarray], rows: int) -> np.ndarray:
    """The first `rows` rows of the chunks, as one array."""
    out, filled = np.empty((rows, 8)), 0
    while filled < rows:
        part = next(chunks)[: rows - filled]
        out[filled : filled + len(part)] = part
        filled += len(part)
    return out


def suite() -> Suite:
    shapes = {
        "pointmaze-umaze": "7 free cells, U-shaped",
        "pointmaze-medium": "26 free cells",
        "pointmaze-large": "46 free cells",
    }
    return Suite(
        "maze2d's protocol: a way-point controller with noise walks a point from random goal to goal, never reset",
        "gymnasium-robotics (MIT), MuJoCo (Apache-2.0)",
        {
            f"{name}{one}": Entry(PointMaze(f"{name}{one}"), 1_000_000, f"{shape}{what}", 28, 0.3)
            for one, what in (("", ""), ("-single", "; rewards of D4RL's one goal"))
            for name, shape in shapes.items()
        },
    )
