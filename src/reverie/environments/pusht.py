"""Push-T (Florence et al. 2021; Chi et al. 2023, "Diffusion Policy"): a disc pushes a T onto its place in the plane.

The task is the published one, step for step: a workspace of 512 x 512, a mouse's position as action, which the disc
follows by a PD controller, ten steps of 0.01 s of simulation for each action, and a T that stops where nothing pushes
it. It is written anew on the physics engine alone. The package of the same task draws with pygame and OpenCV, of which
the first shares its folder with Gymnasium's pygame-ce, and the second needs a system's graphics libraries.
"""

import atexit
import gc
import math
from itertools import pairwise
from typing import Any, ClassVar
from weakref import WeakSet

import gymnasium
import numpy as np
import pymunk
import shapely
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from reverie.environments import drawing

SIZE = 512.0
"""Of the workspace; y goes down in pictures."""
LIMIT = 300
"""Steps of an episode."""
ENOUGH = 0.95
"""Coverage of a success."""
GOAL = (256.0, 256.0, math.pi / 4)
"""Pose of the block: x, y, angle in rad."""
RADIUS = 15.0
"""Of the agent."""
BAR = ((-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (-60.0, 30.0))
STEM = ((-15.0, 30.0), (15.0, 30.0), (15.0, 120.0), (-15.0, 120.0))
OUTLINE = np.array([*BAR[:3], STEM[1], STEM[2], STEM[3], STEM[0], BAR[3]])
"""Corners of the block in its own frame, whose origin is the middle of the bar's top: `[8, 2]`."""
CENTRE = (0.0, 45.0)
"""Of the block's mass, as the task has it: halfway between those of bar and stem."""
AREA = 6300.0
MASS, MOMENT = 1.0, 3000.0
STIFFNESS, DAMPING = 100.0, 20.0
"""Of the PD controller: acceleration = 100 (target - position) - 20 velocity."""
DT, SUBSTEPS = 0.01, 10
"""Seconds of one step of the simulation, and those of one action."""
PIXELS = 64
COLOURS = {"goal": drawing.GOAL, "block": (119, 136, 153), "agent": drawing.AGENT}


class Simulation:
    """The agent, the block and four walls."""

    alive: ClassVar["WeakSet[Simulation]"] = WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)
        self.space = pymunk.Space()
        self.space.damping = 0.0  # per second: what nothing pushes stands still
        self.agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self.block = pymunk.Body(MASS, MOMENT)
        self.block.center_of_gravity = CENTRE
        corners = ((5, 506), (5, 5), (506, 5), (506, 506), (5, 506))
        for start, stop in pairwise(corners):
            self.space.add(pymunk.Segment(self.space.static_body, start, stop, 2))
        self.space.add(self.agent, pymunk.Circle(self.agent, RADIUS))
        self.space.add(self.block, pymunk.Poly(self.block, BAR), pymunk.Poly(self.block, STEM))

    def place(self, agent: ArrayLike, block: ArrayLike) -> None:
        """At rest: the agent at (x, y), the block in the pose (x, y, angle)."""
        x, y, angle = np.asarray(block, float).tolist()
        self.agent.position, self.agent.velocity = tuple(np.asarray(agent, float).tolist()), (0.0, 0.0)
        self.block.angle = angle  # first: it turns around the centre of mass, which moves the origin
        self.block.position = x, y
        self.block.velocity, self.block.angular_velocity = (0.0, 0.0), 0.0

    def step(self, target: ArrayLike) -> None:
        """One action: the agent is drawn to the position (x, y) for 0.1 s."""
        x, y = np.asarray(target, float).tolist()
        for _ in range(SUBSTEPS):
            (px, py), (vx, vy) = self.agent.position, self.agent.velocity
            ax, ay = STIFFNESS * (x - px) - DAMPING * vx, STIFFNESS * (y - py) - DAMPING * vy
            self.agent.velocity = vx + ax * DT, vy + ay * DT
            self.space.step(DT)

    @property
    def position(self) -> tuple[float, float]:
        """Of the agent."""
        return self.agent.position.x, self.agent.position.y

    @property
    def pose(self) -> tuple[float, float, float]:
        """Of the block: x, y, angle in rad, which is not wrapped."""
        return self.block.position.x, self.block.position.y, self.block.angle


@atexit.register
def _free() -> None:
    """What is still there when Python ends, which pymunk would complain of once its own modules are gone."""
    for simulation in list(Simulation.alive):
        vars(simulation).clear()
    gc.collect()


def outline(pose: ArrayLike) -> np.ndarray:
    """The block's corners in poses (x, y, angle), `[..., 3] -> [..., 8, 2]`."""
    x, y, angle = np.moveaxis(np.asarray(pose, float)[..., None], -2, 0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x + cos * OUTLINE[:, 0] - sin * OUTLINE[:, 1], y + sin * OUTLINE[:, 0] + cos * OUTLINE[:, 1]], -1)


_GOAL = shapely.Polygon(outline(GOAL))


def coverage(pose: ArrayLike) -> float:
    """The share of the goal that a block in this pose covers, in [0, 1]."""
    return shapely.Polygon(outline(pose)).intersection(_GOAL).area / AREA


def observe(position: ArrayLike, pose: ArrayLike) -> np.ndarray:
    """Float32 `[6]`, as `PushT` shows it."""
    x, y, angle = np.asarray(pose, float).tolist()
    return np.array([*np.asarray(position, float).tolist(), x, y, math.cos(angle), math.sin(angle)], np.float32)


def draw(position: ArrayLike, pose: ArrayLike, pixels: int = PIXELS, finer: int = 4) -> np.ndarray:
    """The goal, the block on it and the agent on both: uint8 `[pixels, pixels, 3]`, each pixel the mean of
    `finer` x `finer`."""
    side = pixels * finer
    scale = side / SIZE
    image = Image.new("RGB", (side, side), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    for what, where in (("goal", GOAL), ("block", pose)):
        pen.polygon([tuple(corner) for corner in (outline(where) * scale).tolist()], fill=COLOURS[what])
    x, y = (np.asarray(position, float) * scale).tolist()
    r = RADIUS * scale
    pen.ellipse((x - r, y - r, x + r, y + r), fill=COLOURS["agent"])
    return np.asarray(image.reduce(finer))


class PushT(gymnasium.Env):
    """The task.

    An observation is float32 `[6]`: the agent's x and y, the block's x and y (in 0..512), the cosine and sine of its
    angle. The published one has the angle itself, from 0 to 2 pi, which jumps an eighth of a turn from the goal. With
    `images` it is a dictionary instead: "image", uint8 `[64, 64, 3]`, and "agent", float32 `[2]`.

    An action is the position (x, y) that the agent is drawn to for 0.1 s, float32 `[2]` in 0..512. The reward is the
    goal's coverage by the block over 0.95, at most 1; from a coverage of 0.95 on it is a success and the end, and after
    300 steps it is over. The info has `success` and `coverage`.

    A reset draws agent and block as the published task does (integers, agent in 50..449, block in 100..399, any angle;
    the block is then turned around its centre of mass). The option `state`, (agent x, y, block x, y, angle), sets them.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  # as Gymnasium has it
    render_mode = "rgb_array"

    def __init__(self, images: bool = False):
        self.images = images
        self.spec = EnvSpec("pusht-images" if images else "pusht", max_episode_steps=LIMIT)
        self.action_space = Box(0.0, SIZE, (2,), np.float32)
        # The block's origin can be pushed a little out of the workspace.
        high = np.array([SIZE, SIZE, 2 * SIZE, 2 * SIZE, 1, 1], np.float32)
        low = np.array([0, 0, -SIZE, -SIZE, -1, -1], np.float32)
        self.observation_space: Any = Box(low, high)
        if images:
            seen = Box(0, 255, (PIXELS, PIXELS, 3), np.uint8)
            self.observation_space = Dict({"agent": Box(0.0, SIZE, (2,), np.float32), "image": seen})
        self.simulation, self.steps = Simulation(), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.simulation, self.steps = Simulation(), 0
        state = (options or {}).get("state")
        if state is not None:
            self.simulation.place(state[:2], state[2:])
        else:
            self._draw_start()
        self.simulation.space.step(DT)  # what overlaps is pushed apart
        return self._observation(), self._info()

    def _draw_start(self) -> None:
        rng, block = self.np_random, self.simulation.block
        agent, at = (rng.integers(low, high, 2) for low, high in ((50, 450), (100, 400)))
        self.simulation.place(agent, (*at, 0.0))
        block.angle = float(rng.uniform(-math.pi, math.pi))

    def step(self, action: ArrayLike) -> Any:
        self.simulation.step(action)
        self.steps += 1
        info = self._info()
        reward = min(1.0, info["coverage"] / ENOUGH)
        return self._observation(), reward, info["success"], self.steps >= LIMIT, info

    def render(self) -> np.ndarray:
        """Uint8 `[512, 512, 3]`."""
        return draw(self.simulation.position, self.simulation.pose, int(SIZE), 2)

    @property
    def state(self) -> np.ndarray:
        return observe(self.simulation.position, self.simulation.pose)

    def project(self, states: ArrayLike) -> np.ndarray:
        """Where the agent and the block's middle are in a picture, of observations `[..., 6]`: `[..., 2, 2]`."""
        agent, block, turned = np.split(np.asarray(states, float), 3, -1)
        middle = block + CENTRE[1] * np.stack([-turned[..., 1], turned[..., 0]], -1)
        return np.stack([agent, middle], -2)

    def _observation(self) -> Any:
        position, pose = self.simulation.position, self.simulation.pose
        if self.images:
            return {"agent": np.array(position, np.float32), "image": draw(position, pose)}
        return observe(position, pose)

    def _info(self) -> dict[str, Any]:
        covered = coverage(self.simulation.pose)
        return {"coverage": covered, "success": covered >= ENOUGH}
