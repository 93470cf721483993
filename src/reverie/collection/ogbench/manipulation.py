"""OGBench's cube, scene and puzzle sets by its recipe and its own oracles, which are in its package.

play: an oracle that follows a plan with noise of its own, drawn when the plan is made. noisy: one that looks at the
state only, with Gaussian noise of a size drawn for each episode and some random actions. Either goes on to the next
random target when it is done with one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.collection.ogbench.mazes import ended
from reverie.collection.ogbench.naming import regenerated
from reverie.collection.recipe import Part, Rows, cut
from reverie.data import Dataset

PART = 10_000
"""Steps of a part, about."""
LENGTH = 1000
"""Steps of an episode."""
PLAN_NOISE, SMOOTHING = 0.1, 0.5
"""Of the plans of play: noise in parts of an action's range, and the steps over which it is smoothed."""
MARKOV_NOISE, LEAST = 0.1, 0.4
"""Of noisy: the largest size of the noise in an episode, and the least length of the way that an oracle sees ahead."""
SHAPE = np.array([1.0, 1.0, 1.0, 3.0, 10.0])
"""The noise's size for position, yaw and gripper."""
RANDOM = {"cube": 0.1, "scene": 0.1, "puzzle": 0.2}
"""How many of the actions of noisy are random."""
STACKING = {"single": (0.0, 0.0), "double": (0.0, 0.25)}
"""Between what bounds an episode's chance to stack a cube on another is drawn; 0.5 in a scene."""


def oracles(env: Any, task: str, noisy: bool) -> dict[str, Any]:
    """The oracle for every kind of target that there is in the task."""
    from ogbench.manipspace.oracles.markov import button_markov, cube_markov, drawer_markov, window_markov
    from ogbench.manipspace.oracles.plan import button_plan, cube_plan, drawer_plan, window_plan

    plans = {
        "cube": cube_plan.CubePlanOracle,
        "button": button_plan.ButtonPlanOracle,
        "drawer": drawer_plan.DrawerPlanOracle,
        "window": window_plan.WindowPlanOracle,
    }
    markovs = {
        "cube": cube_markov.CubeMarkovOracle,
        "button": button_markov.ButtonMarkovOracle,
        "drawer": drawer_markov.DrawerMarkovOracle,
        "window": window_markov.WindowMarkovOracle,
    }
    targets = {"cube": ("cube",), "scene": tuple(plans), "puzzle": ("button",)}[task]
    kinds: dict[str, Any] = markovs if noisy else plans
    settings: dict[str, Any] = {"min_norm": LEAST} if noisy else {"noise": PLAN_NOISE, "noise_smoothing": SMOOTHING}
    if task == "puzzle":
        settings["gripper_always_closed"] = True
    return {target: kinds[target](env=env, **settings) for target in targets}


def healthy(positions: np.ndarray) -> bool:
    """Whether a scene's cube is to be seen all the time, or in the drawer: not too far to the right, and to the left
    only at the height that it has in there. `positions` are the simulator's [n, nq]."""
    y, z = positions[:, 15], positions[:, 16]
    right = y >= 0.29
    left = (y <= -0.3) & ((z < 0.06) | (z > 0.08))
    return not (right | left).any()


@dataclass(frozen=True)
class Manipulation:
    """The recipe of one set."""

    name: str
    """TASK-KIND, as "cube-single-play" or "puzzle-3x3-noisy"."""
    stream: int = 0
    """Of the seed's random numbers: 0 of the set, 1 of the one for validation."""
    length: int = LENGTH
    """Steps of an episode."""

    @property
    def environment(self) -> str:
        return self.name.rsplit("-", 1)[0] + "-v0"

    def parts(self, steps: int, seed: int) -> list[Part]:
        return cut(steps, max(1, PART // self.length) * self.length, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        from reverie.environments import ogbench

        rng = part.rng(self.stream)
        own = np.random.RandomState(rng.integers(2**32, size=4, dtype=np.uint32)).get_state()
        env = ogbench.make(self.environment, terminate_at_goal=False, mode="data_collection").unwrapped
        with ogbench.numpy_state(own):  # the oracles draw from it
            env.reset(seed=int(rng.integers(2**31)))
            hands = Hands(env, self.name, rng)
            episodes, left = [], part.steps
            while left:
                episodes.append(hands.episode(min(self.length, left)))
                left -= len(episodes[-1]["actions"])
        columns = {key: np.concatenate([each[key] for each in episodes]) for key in episodes[0]}
        return columns | {"timeouts": ended([len(each["actions"]) for each in episodes])}

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        return regenerated(self.name, self.environment, rows, seed, bool(self.stream), {})


class Hands:
    """An arm led by oracles."""

    def __init__(self, env: Any, name: str, rng: np.random.Generator):
        self.env, self.rng = env, rng
        self.task, variant, *_ = name.split("-")
        self.noisy = name.endswith("-noisy")
        self.oracles = oracles(env, self.task, self.noisy)
        self.random = RANDOM[self.task] if self.noisy else 0.0
        self.stacking = STACKING.get(variant, (0.5, 0.5))

    def episode(self, steps: int) -> Rows:
        """In a scene, the first one that is healthy."""
        while True:
            rows, final = self._episode(steps)
            if self.task != "scene" or healthy(np.vstack([rows["qpos"], final])):
                return {key: _narrow(key, column) for key, column in rows.items()}

    def _episode(self, steps: int) -> tuple[Rows, np.ndarray]:
        """Its rows, and the simulator's positions after it."""
        env, rng = self.env, self.rng
        seen, info = env.reset()
        stacking, size = rng.uniform(*self.stacking), rng.uniform(0, MARKOV_NOISE)
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(seen, info)
        rows: dict[str, list[np.ndarray]] = {}
        for _ in range(steps):
            action = self._action(oracle, seen, info, size)
            after, _, _, _, info = env.step(action)
            if oracle.done:
                # What the oracle acts on next is still of the target before: so it is in the recipe.
                oracle = self._next_target(stacking)
            made = {"observations": seen, "actions": action, "next_observations": after}
            made |= {key: info[f"prev_{key}"] for key in ("qpos", "qvel")}
            if "prev_button_states" in info:
                made["button_states"] = info["prev_button_states"]
            for key, value in made.items():
                rows.setdefault(key, []).append(value)
            seen = after
        return {key: np.stack(column) for key, column in rows.items()}, info["qpos"]

    def _action(self, oracle: Any, seen: np.ndarray, info: dict[str, Any], size: float) -> np.ndarray:
        if self.rng.random() < self.random:
            return self.rng.uniform(-1.0, 1.0, 5)
        action = np.asarray(oracle.select_action(seen, info))
        if self.noisy:
            action = action + self.rng.normal(0.0, size * SHAPE)
        return np.clip(action, -1.0, 1.0)

    def _next_target(self, stacking: float) -> Any:
        seen, info = self.env.set_new_target(p_stack=stacking)
        oracle = self.oracles[info["privileged/target_task"]]
        oracle.reset(seen, info)
        return oracle


def _narrow(key: str, column: np.ndarray) -> np.ndarray:
    return column.astype(np.int64 if key == "button_states" else np.float32)
