"""Data collected in the point mazes, in the protocol of D4RL's maze2d sets.

They are regenerated; they are not D4RL's files and their scores do not compare with D4RL's.
"""

import math
from collections.abc import Iterator

import numpy as np

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
from reverie.errors import ReverieError
from reverie.terminal import Progress


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
        self._qpos[:] = position

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


def rollout(maze: Maze, settings: Settings, seed: int, chunk: int = 10_000) -> Iterator[np.ndarray]:
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


def collect(
    name: str,
    *,
    steps: int,
    seed: int = 0,
    settings: Settings | None = None,
    progress: bool = False,
) -> Dataset:
    """Collects data in a point maze, in the protocol of D4RL's maze2d sets: one rollout from goal to goal.

    `infos["goal"]` [N, 2] is the goal in force at each step; it changes after the step that reaches it (within
    `settings.reach`, 0.1 m). The ball rolls on, so the whole is one episode, cut by a timeout at its last step: a
    window may begin on the way to one goal and end on the way to the next. There are no terminals. `rewards` are
    the environment's: 1 where the position after the step lies within 0.45 m of the goal in force, else 0.

    Args:
        name: a key of `MAZES`.
        steps: environment steps, at least 1.
        seed: same seed, same data (on one machine kind and version of mujoco).
        settings: of the controller; the defaults are those of D4RL's generator with its noise on.
        progress: shows a bar on the terminal.

    Raises:
        ReverieError: unknown maze, steps below 1, or no simulator installed.
    """
    maze, settings = find_maze(name), settings or Settings()
    if steps < 1:
        raise ReverieError(f"steps must be at least 1, but is {steps}.")
    if seed < 0:
        raise ReverieError(f"seed must be at least 0, but is {seed}.")
    # One row more than asked for: the state after the last step.
    flat = _gather(rollout(maze, settings, seed), steps + 1, progress, f"collecting {name}")
    states, actions, goals = flat[:, :4], flat[:-1, 4:6], flat[:-1, 6:8]
    distance = np.linalg.norm(states[1:, :2] - goals, axis=1)
    return Dataset.from_arrays(
        observations=states[:-1],
        actions=actions,
        rewards=distance <= GOAL_RADIUS,
        next_observations=states[1:],
        terminals=np.zeros(steps, bool),
        timeouts=np.arange(steps) == steps - 1,
        infos={"goal": goals.astype(np.float32)},
        action_low=-1.0,
        action_high=1.0,
        attributes={
            "name": name,
            "environment": maze.environment,
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


def _gather(chunks: Iterator[np.ndarray], rows: int, progress: bool, label: str) -> np.ndarray:
    """The first `rows` rows of the chunks, as one array."""
    out, filled = np.empty((rows, 8)), 0
    with Progress(label, rows, show=progress, unit="steps") as bar:
        while filled < rows:
            part = next(chunks)[: rows - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            bar.more(len(part))
    return out
