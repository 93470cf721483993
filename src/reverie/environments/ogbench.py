"""OGBench's tasks (Park et al. 2024, "OGBench: Benchmarking Offline Goal-Conditioned RL") by its own ids, seeded.

The package draws from numpy's global generator and from action spaces that nobody seeds. Here an environment has a
global generator of its own, and `reset(seed=...)` seeds all there is: same seed, same episode, and the caller's
generator is as it was.
"""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import getattr_static
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict


@contextmanager
def numpy_state(state: Any) -> Iterator[None]:
    """numpy's global generator is in `state` (as of `RandomState.get_state`) inside, and as it was outside."""
    outside = np.random.get_state()
    np.random.set_state(state)
    try:
        yield
    finally:
        np.random.set_state(outside)


def make(name: str, **options: Any) -> gymnasium.Env:
    """The environment of an id of OGBench: "cube-single-v0" (one of its five tasks, drawn at reset),
    "cube-single-singletask-task2-v0" (one task with its rewards; without a number the default one), or, in a form of
    ours, "cube-single-goals-v0" (the five goals in turn, see `Goals`). `options` are those of OGBench's environment.

    Raises ModuleNotFoundError without the package, gymnasium's error for an id that it does not know.
    """
    registered = name.replace("-goals-", "-")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of screens that are not there
        import ogbench  # noqa: F401  # registers the environments

        env = Seeded(gymnasium.make(registered, disable_env_checker=True, **options))
    _remove_description(env.unwrapped)
    return env if registered == name else Goals(env)


def _remove_description(env: Any) -> None:
    """A maze's file, which the simulator has read and would leave behind."""
    path = Path(getattr(env, "fullpath", ""))
    if path.suffix == ".xml" and path.parent == Path(tempfile.gettempdir()):
        path.unlink(missing_ok=True)


class Seeded(gymnasium.Wrapper):
    """`reset(seed=...)` seeds the environment's numpy, which is global to it alone, and its action space as well."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        inner: Any = env.unwrapped
        if isinstance(getattr_static(type(inner), "action_space", None), property):
            # It makes a space, with another seed, whenever it is asked; the environment samples from it in reset.
            inner.__class__ = type(type(inner).__name__, (type(inner),), {"action_space": inner.action_space})
        self._state = np.random.RandomState().get_state()
        with self._own():  # a space that resets the environment to see what it observes
            self.observation_space = env.observation_space

    @contextmanager
    def _own(self) -> Iterator[None]:
        with numpy_state(self._state):
            try:
                yield
            finally:
                self._state = np.random.get_state()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self._state = np.random.RandomState(np.random.SeedSequence(seed).generate_state(4)).get_state()
            self.env.unwrapped.action_space.seed(seed)
        with self._own():
            return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        with self._own():
            return self.env.step(action)


class Goals(gymnasium.Wrapper):
    """The five tasks of a goal-conditioned environment in turn, as a goal environment: "observation" and
    "desired_goal", the observation at the goal. `info["task"]` is 1 to 5; `info["success"]` tells of the goal."""

    episode: int | None = None
    """Of the next reset, from 0: its task is episode mod 5 + 1. None: the seed takes its place, or without a seed the
    task is the next one."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.tasks: int = env.unwrapped.num_tasks  # type: ignore[attr-defined]
        self.observation_space = Dict({"observation": env.observation_space, "desired_goal": env.observation_space})
        self._task = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        turn = next((turn for turn in (self.episode, seed) if turn is not None), self._task)
        self._task = turn % self.tasks + 1
        seen, info = self.env.reset(seed=seed, options={**(options or {}), "task_id": self._task})
        self._goal = info["goal"]
        return self._beside_goal(seen), {**info, "task": self._task}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        seen, reward, terminated, truncated, info = self.env.step(action)
        return self._beside_goal(seen), reward, terminated, truncated, {**info, "task": self._task}

    def _beside_goal(self, seen: Any) -> dict[str, Any]:
        return {"observation": seen, "desired_goal": self._goal}
