"""Data of Meta-World's tasks by the policies that come with it, with noise."""

import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from reverie.collection.recipe import Entry, Part, Rows, Suite, TaskPart, by_task, cut
from reverie.data import Dataset
from reverie.environments.metaworld import LIMIT, NAMES, PREFIX, SETS, TASKS, in_words, make_metaworld, scripted_policy

SIZE = 20 * LIMIT
"""Steps of a part."""


@dataclass(frozen=True)
class Scripted:
    """Episodes of 500 steps, each with objects and goal drawn anew; the last one is cut where the steps are done.

    The policy's action is clipped to [-1, 1], gets the noise, and is clipped again: so each step has noise, also where
    the policy asks for much more than it can get. `infos["success"]` [N] is the environment's.
    """

    name: str
    """One of `environments.metaworld.NAMES`."""
    noise: float = 0.1
    """Standard deviation of the Gaussian noise on each number of an action. Meta-World tests its policies with twice as
    much, before the clipping; with 0.1 after it all of them succeed about as often as without any."""

    def parts(self, steps: int, seed: int) -> list[Part]:
        return cut(steps, SIZE, seed)

    def collect(self, part: Part, progress: bool = False) -> Rows:
        starts, noises = part.rng(), part.rng(1)
        with closing(make_metaworld(self.name)) as env, _quiet():
            lengths = [min(LIMIT, part.steps - start) for start in range(0, part.steps, LIMIT)]
            episodes = [self._episode(env, int(starts.integers(2**31)), noises, steps) for steps in lengths]
        return {key: np.concatenate([each[key] for each in episodes]) for key in episodes[0]}

    def _episode(self, env, start: int, noises: np.random.Generator, steps: int) -> Rows:
        policy, seen = scripted_policy(self.name), [env.reset(seed=start)[0]]
        actions, rewards, successes = [], [], []
        for noise in noises.normal(0.0, self.noise, (steps, 4)):
            # A copy: the policies of the doors write into what they are shown.
            chosen = np.clip(policy.get_action(seen[-1].copy()), -1, 1)
            actions.append(np.clip(chosen + noise, -1, 1).astype(np.float32))
            after, reward, _, _, info = env.step(actions[-1])
            seen.append(after)
            rewards.append(reward)
            successes.append(bool(info["success"]))
        observations = np.array(seen, np.float32)
        return {
            "observations": observations[:-1],
            "actions": np.array(actions),
            "rewards": np.array(rewards, np.float32),
            "next_observations": observations[1:],
            "timeouts": np.arange(steps) == steps - 1,
            "success": np.array(successes),
        }

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        successes = rows.pop("success")
        episodes = np.logical_or.reduceat(successes, np.flatnonzero(np.r_[True, rows["timeouts"][:-1]]))
        return Dataset.from_arrays(
            **rows,  # type: ignore[arg-type]  # the names are those of arrays
            terminals=np.zeros(steps, bool),
            infos={"success": successes},
            action_low=-1.0,
            action_high=1.0,
            attributes={
                "name": self.name,
                "environment": self.name,
                "steps": steps,
                "seed": seed,
                "policy": "Meta-World's scripted policy",
                "noise": self.noise,
                "successful_episodes": f"{episodes.mean():.1%}",
                "metaworld": version("metaworld"),
                "mujoco": version("mujoco"),
            },
        )


@dataclass(frozen=True)
class Several:
    """Episodes of several tasks by `Scripted`, equally many steps of each, and each task's name in words: the attribute
    "tasks" lists them, `infos["task"]` [N] is the number of a step's."""

    name: str
    tasks: tuple[str, ...]
    noise: float = 0.1

    def parts(self, steps: int, seed: int) -> list[TaskPart]:
        return by_task(steps, len(self.tasks), SIZE, seed)

    def collect(self, part: TaskPart, progress: bool = False) -> Rows:
        rows = self._of(part.task).collect(part)
        return {**rows, "task": np.full(part.steps, part.task, np.int32)}

    def _of(self, task: int) -> Scripted:
        return Scripted(PREFIX + self.tasks[task], self.noise)

    def dataset(self, rows: Rows, steps: int, seed: int) -> Dataset:
        numbers = rows.pop("task")
        made = Scripted(self.name, self.noise).dataset(rows, steps, seed)
        about = {key: value for key, value in made.attributes.items() if key != "environment"}
        about["tasks"] = list(map(in_words, self.tasks))
        return replace(made, infos={**made.infos, "task": numbers}, attributes=about)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the policies' warning that they ask for more than an action can be, which is so at most steps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Constant.* may be too high", UserWarning)
        yield


def suite() -> Suite:
    about = "one of: " + ", ".join(TASKS)
    return Suite(
        "Meta-World's tasks by its scripted policies with noise, each episode with another goal",
        "metaworld (MIT), MuJoCo (Apache-2.0)",
        {name: Entry(Scripted(name), 200 * LIMIT, about, 16, 1.5) for name in NAMES},
        as_one="metaworld-TASK",
    )


def several() -> Suite:
    return Suite(
        "Several of Meta-World's tasks in one set, with each task's name in words",
        "metaworld (MIT), MuJoCo (Apache-2.0)",
        {
            name: Entry(
                Several(name, tasks),
                20 * LIMIT * len(tasks),
                f"20 episodes of each of {len(tasks)} tasks",
                1.6 * len(tasks),
                0.15 * len(tasks),
            )
            for name, tasks in SETS.items()
        },
    )
