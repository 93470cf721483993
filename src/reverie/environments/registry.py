"""Environments by name, and what to say when there is none."""

import difflib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.environments import mamujoco, metaworld, particles
from reverie.environments.pointmaze import MAZES, Maze
from reverie.environments.velocity import VELOCITY, with_cost
from reverie.errors import ReverieError

if TYPE_CHECKING:
    import gymnasium

_LOCOMOTION = "random|medium|expert|medium-replay|medium-expert|full-replay"
RETIRED = (
    (r"maze2d-(umaze|medium|large)(-dense)?-v\d", "pointmaze-{0}-single"),
    (rf"halfcheetah-({_LOCOMOTION})-v\d", "HalfCheetah-v5"),
    (rf"hopper-({_LOCOMOTION})-v\d", "Hopper-v5"),
    (rf"walker2d-({_LOCOMOTION})-v\d", "Walker2d-v5"),
    (rf"ant-({_LOCOMOTION})-v\d", "Ant-v5"),
    (r"(HalfCheetah|Hopper|Walker2d|Ant|Humanoid|Swimmer)-v[0-3]", "{0}-v5"),
    (r"antmaze-umaze(-diverse)?-v\d", "AntMaze_UMaze-v5"),
    (r"antmaze-medium-(play|diverse)-v\d", "AntMaze_Medium-v5"),
    (r"antmaze-large-(play|diverse)-v\d", "AntMaze_Large-v5"),
)
"""Ids of D4RL and of retired simulators, as patterns, and today's environment for each."""

OGBENCH = re.compile(r"(visual-)?(pointmaze|antmaze|humanoidmaze|antsoccer|cube|scene|puzzle)-([\w-]+-)?v0")
"""The form of OGBench's ids, and of ours for the five goals of a task in turn."""

CHUNKED = re.compile(r"(.+)@chunk=(\d+)")
"""An environment whose actions are several in a row."""

PLANAR: dict[str, tuple[str, str, dict[str, Any]]] = {
    "pusht": ("pusht", "PushT", {}),
    "pusht-images": ("pusht", "PushT", {"images": True}),
    "fork": ("fork", "Fork", {}),
    "fork-images": ("fork_images", "ForkImages", {}),
    "fork-looks": ("fork_images", "ForkImages", {"looks": True}),
    "compass": ("compass", "Compass", {}),
    "multigoal": ("multigoal", "MultiGoal", {}),
    "speed": ("speed", "Speed", {}),
    "meeting": ("meeting", "Meeting", {}),
    "gridmaze": ("gridmaze", "GridMaze", {}),
    **{name: ("particles", "make_particles", {"name": name}) for name in particles.NAMES},
    **{name: ("mamujoco", "make_mamujoco", {"name": name}) for name in mamujoco.BODIES},
}
"""Tasks in the plane or on a line, and of teams, which are in this package or come with an extra: module, class and
settings."""

EXTRAS = {
    "mujoco": "mujoco",
    "gymnasium_robotics": "maze",
    "ogbench": "ogbench",
    "dm_control": "ogbench",
    "pymunk": "pusht",
    "shapely": "pusht",
    "mpe2": "multi-agent",
}
"""The module that is missing and the extra of this package that brings it."""


def make(name: "str | Callable[[], gymnasium.Env]") -> "gymnasium.Env":
    """Makes an environment.

    Args:
        name: "pointmaze-umaze", "pointmaze-medium" or "pointmaze-large" (goal environments with random starts and
            goals in free cells; the goal stays where it is and the episode goes on when it is reached, up to the
            limit of 300, 600 and 800 steps); the same with "-single" behind (the goal of D4RL's single task, random
            starts outside its cell; `evaluate` shows a method that takes no goal the state alone); "metaworld-TASK",
            such as "metaworld-coffee-push", with one of Meta-World's 50 tasks (objects and goal drawn anew each
            episode); an id of OGBench, such as "cube-single-v0", with rewards "cube-single-singletask-task2-v0", with
            the five goals in turn "cube-single-goals-v0"; "pusht" (its state) or "pusht-images" (an image and where the
            agent is); "fork", a point that goes round an obstacle, "fork-images", a picture of it, or "fork-looks", one
            that looks different in each episode; "compass", a point and eight goals, each a task, in turn;
            "multigoal", a point and four goals that are all as good; "speed", a point that is paid and charged for its
            speed; "meeting", two agents that must go to one place; "gridmaze", a maze whose layout is another in each
            episode; "mpe-spread", "mpe-tag" or "mpe-world" with MPE's teams;
            "mamujoco-halfcheetah", whose legs are two agents;
            "hopper-velocity" and the like (`velocity.VELOCITY`), where a step above a speed costs 1; any id that
            gymnasium knows, such as "Hopper-v5"; any of these with "@chunk=4" after it, whose actions are four in a row
            (`chunked.Chunked`); or a function without arguments that returns an environment of your own.

    Raises:
        ReverieError: unknown id (with the nearest known one), a retired id (with today's name), or a simulator that is
            not installed (with the extra to install).
    """
    if callable(name):
        return name()
    if found := CHUNKED.fullmatch(name):
        from reverie.environments.chunked import Chunked

        return Chunked(make(found[1]), int(found[2]), found[1])
    if name in MAZES:
        return _make_maze(MAZES[name])
    if name in metaworld.NAMES:
        return metaworld.make_metaworld(name)
    if name in metaworld.SETS:
        return metaworld.make_several(name)
    if OGBENCH.fullmatch(name) and not _instead(name):
        return _make_ogbench(name)
    if name in PLANAR:
        return _make_planar(name)
    if name in VELOCITY:
        return with_cost(_make_registered(VELOCITY[name].environment), VELOCITY[name])
    return _make_registered(name)


def _make_maze(maze: Maze) -> "gymnasium.Env":
    env = _make_registered(maze.environment, continuing_task=True, reset_target=False)
    with suppress(OSError):  # the simulator has read this file already and would leave it behind
        os.unlink(env.unwrapped.tmp_xml_file_path)  # type: ignore[attr-defined]
    from reverie.environments.maze_pictures import DrawnMaze

    env = DrawnMaze(env, maze)
    return env if maze.goal is None else _with_goal(env, maze)


def _with_goal(env: "gymnasium.Env", maze: Maze) -> "gymnasium.Env":
    """The maze with its one goal, exactly in its cell's centre, where the environment would draw it around there."""
    from gymnasium import Wrapper

    cell = np.array(maze.goal)
    goal = np.array(maze.centre(tuple(cell.tolist())))

    class OneGoal(Wrapper):
        one_goal = True  # so that a method without goals may be shown the state alone

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            # Starts are in other cells than the goal's, so that none has reached it already.
            observation, info = self.env.reset(seed=seed, options={**(options or {}), "goal_cell": cell})
            inner: Any = self.unwrapped
            inner.goal = goal.copy()
            inner.update_target_site_pos()
            return {**observation, "desired_goal": goal.copy()}, info

    return OneGoal(env)


def _make_ogbench(name: str) -> "gymnasium.Env":
    from reverie.environments import ogbench

    with _explained(name):
        return ogbench.make(name)


def _make_planar(name: str) -> "gymnasium.Env":
    module, kind, settings = PLANAR[name]
    with _explained(name):
        return getattr(import_module(f"reverie.environments.{module}"), kind)(**settings)


def _make_registered(name: str, **options) -> "gymnasium.Env":
    import gymnasium

    if instead := _instead(name):
        raise ReverieError(instead)
    if name not in gymnasium.registry:
        _register_robotics()
    with _explained(name):
        return gymnasium.make(name, disable_env_checker=True, **options)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What goes wrong in making an environment, in a sentence."""
    import gymnasium

    try:
        yield
    except gymnasium.error.DependencyNotInstalled as error:
        raise ReverieError(_missing(name, "mujoco")) from error
    except ModuleNotFoundError as error:
        raise ReverieError(_missing(name, str(error.name))) from error
    except gymnasium.error.Error as error:
        raise ReverieError(_unknown(name, gymnasium.registry)) from error


def _register_robotics() -> None:
    """Makes gymnasium-robotics' environments known where it is installed, without the notice it prints."""
    import gymnasium

    with suppress(ImportError), redirect_stderr(io.StringIO()):
        import gymnasium_robotics

        gymnasium.register_envs(gymnasium_robotics)


def _instead(name: str) -> str | None:
    """What to say to an id that has a successor or needs an extra; None for any other."""
    for pattern, today in RETIRED:
        if match := re.fullmatch(pattern, name):
            today = today.format(*match.groups())
            return f"The simulator of {name!r} is retired: use {today!r} (scores on the two do not compare)."
    if name.startswith(("PointMaze_", "AntMaze_")) and find_spec("gymnasium_robotics") is None:
        return _missing(name, "gymnasium_robotics")
    return None


def _missing(name: str, module: str) -> str:
    extra = EXTRAS.get(module.split(".")[0])
    cure = f"pip install 'reverie[{extra}]'" if extra else f"pip install {module}"
    return f"{name!r} needs {module}, which is not installed: {cure} brings it."


def _unknown(name: str, known) -> str:
    near = difflib.get_close_matches(
        name, [*MAZES, *metaworld.NAMES, *metaworld.SETS, *PLANAR, *VELOCITY, *known], n=1, cutoff=0.5
    )
    hint = f"did you mean {near[0]!r}?" if near else f"try 'Hopper-v5', or one of {', '.join(MAZES)}."
    return f"There is no environment {name!r}: {hint}"
