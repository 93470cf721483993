"""The point mazes as pictures, drawn from their cells: the simulator's own would need its graphics."""

from typing import Any

import gymnasium
import numpy as np

from reverie.environments import drawing
from reverie.environments.pointmaze import GOAL_RADIUS, Maze

RADIUS = 0.1
"""Of the ball, in m."""


class DrawnMaze(gymnasium.Wrapper):
    """The maze from above: the ball, and the disc in which its goal counts as reached."""

    render_mode = "rgb_array"

    def __init__(self, env: gymnasium.Env, maze: Maze):
        super().__init__(env)
        (height, width), self.maze = maze.walls.shape, maze
        self.view = drawing.View((-width / 2, -height / 2), (width / 2, height / 2), longer=max(256, 32 * width))

    @property
    def state(self) -> np.ndarray:
        inner: Any = self.unwrapped
        return np.concatenate([inner.data.qpos, inner.data.qvel])

    def project(self, states: Any) -> np.ndarray:
        return self.view.pixels(np.asarray(states)[..., None, :2])

    def render(self) -> Any:
        inner: Any = self.unwrapped
        cells = [(int(i), int(j)) for i, j in np.argwhere(self.maze.walls)]
        corners = [np.subtract(self.maze.centre(cell), 0.5) for cell in cells]
        walls = [drawing.square(corner, 1, drawing.WALL) for corner in corners]
        goal = drawing.Disc(inner.goal, GOAL_RADIUS, drawing.GOAL)
        return drawing.draw(self.view, [*walls, goal, drawing.Disc(self.state[:2], RADIUS, drawing.AGENT)])
