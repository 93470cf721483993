"""Meta-World's tasks (Yu et al. 2020): a Sawyer arm's gripper that is moved by 4 numbers, and 39 that it sees.

An observation is the hand (3), the gripper's opening (1) and the objects (14), now and one step ago, and the goal (3).
An episode has 500 steps, is never ended by the task, and begins with objects and goal drawn anew.
"""

from typing import TYPE_CHECKING, Any

from reverie.environments.turns import turn_of
from reverie.errors import ReverieError

if TYPE_CHECKING:
    import gymnasium

PREFIX = "metaworld-"
LIMIT = 500
"""Steps of an episode."""

LISTED = """
assembly basketball bin-picking box-close button-press button-press-topdown button-press-topdown-wall
button-press-wall coffee-button coffee-pull coffee-push dial-turn disassemble door-close door-lock door-open
door-unlock drawer-close drawer-open faucet-close faucet-open hammer hand-insert handle-press handle-press-side
handle-pull handle-pull-side lever-pull peg-insert-side peg-unplug-side pick-out-of-hole pick-place pick-place-wall
plate-slide plate-slide-back plate-slide-back-side plate-slide-side push push-back push-wall reach reach-wall
shelf-place soccer stick-pull stick-push sweep sweep-into window-close window-open
"""
TASKS = tuple(LISTED.split())
"""Their names without the version's."""

NAMES = tuple(PREFIX + task for task in TASKS)
MT10 = (
    *("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close"),
    *("button-press-topdown", "peg-insert-side", "window-open", "window-close"),
)
SETS = {f"{PREFIX}mt{len(tasks)}": tasks for tasks in (MT10, TASKS)}
"""The tasks of Meta-World's own sets of several, by our names of them."""


def in_words(task: str) -> str:
    """What to do, as a sentence: "drawer open"."""
    return task.replace("-", " ")


def make_several(name: str) -> "gymnasium.Env":
    """The tasks of a name in `SETS` in turn (`environments.turns`), called by their names in words. What is observed
    does not say which task it is: that is told. Raises as `make_metaworld`."""
    import numpy as np
    from gymnasium import Env
    from gymnasium.envs.registration import EnvSpec
    from gymnasium.spaces import Box

    _classes(name)

    class InTurn(Env):
        def __init__(self) -> None:
            self.names = tuple(PREFIX + task for task in SETS[name])
            self.tasks, self.task_names = len(self.names), tuple(map(in_words, SETS[name]))
            self.spec = EnvSpec(name, max_episode_steps=LIMIT)
            self.observation_space = Box(-np.inf, np.inf, (39,), np.float64)
            self.action_space = Box(-1.0, 1.0, (4,), np.float32)
            self.made: dict[str, Env] = {}
            self.episode: int | None = None
            self.task = -1

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            self.task = turn_of(self.episode, seed, self.task) % self.tasks
            chosen = self.names[self.task]
            self.made[chosen] = self.made.get(chosen) or make_metaworld(chosen)
            seen, info = self.made[chosen].reset(seed=seed, options=options)
            return seen, {**info, "task": self.task + 1}

        def step(self, action: Any) -> Any:
            seen, *rest, info = self.made[self.names[self.task]].step(action)
            return seen, *rest, {**info, "task": self.task + 1}

        def close(self) -> None:
            for env in self.made.values():
                env.close()

    return InTurn()


def make_metaworld(name: str) -> "gymnasium.Env":
    """The environment of a name in `NAMES`: a vector observation with the goal in it, `success` in the info.

    The seed of `reset` fixes objects and goal; without one they go on from the last. Numpy's global generator is left
    as it is.

    Raises ReverieError where Meta-World is not installed.
    """
    from gymnasium import Wrapper
    from gymnasium.envs.registration import EnvSpec

    class Seeded(Wrapper):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if seed is not None:
                self.unwrapped.seed(seed)  # type: ignore[attr-defined]  # it ignores that of its own reset
            return self.env.reset(options=options)

    # With a seed it puts the global generator back, of which it makes use.
    env = _classes(name)[f"{name.removeprefix(PREFIX)}-v3-goal-observable"](seed=0)
    env.seeded_rand_vec, env._freeze_rand_vec = True, False
    env.spec = EnvSpec(name, max_episode_steps=LIMIT)
    return Seeded(env)


def scripted_policy(name: str) -> Any:
    """The policy that Meta-World has for the task: `get_action(observation)`. Raises as `make_metaworld`."""
    _classes(name)
    from metaworld.policies import ENV_POLICY_MAP

    policy: Any = ENV_POLICY_MAP[f"{name.removeprefix(PREFIX)}-v3"]
    return policy()


def _classes(name: str) -> Any:
    try:
        from metaworld import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    except ImportError as error:
        raise ReverieError(
            f"{name!r} needs {error.name or 'metaworld'}, which is not installed: pip install 'reverie[metaworld]' "
            "brings it."
        ) from error
    return ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
