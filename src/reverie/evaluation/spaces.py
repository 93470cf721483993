"""Whether an environment is one that a run can act in."""

from typing import Any

import numpy as np

from reverie.data.fields import Field, describe
from reverie.data.schemes import is_goal_environment
from reverie.errors import ReverieError
from reverie.training.inputs import takes_goal
from reverie.training.run import Run

WISHES = ("task", "sentence")
"""By which methods are told what to do."""


def shown(envs: list, run: Run) -> list:
    """The environments as the run sees them: where the goal is always the same, one that takes no goal sees none."""
    from gymnasium.wrappers import TransformObservation

    if takes_goal(run.algorithm, run.spec) or not isinstance(run.spec.observation_space, Field):
        return envs
    return [
        TransformObservation(env, lambda seen: seen["observation"], env.observation_space["observation"])
        if getattr(env, "one_goal", False)
        else env
        for env in envs
    ]


def own_tasks(run: Run, env: Any, episodes: int) -> dict[str, Any]:
    """What a run is asked for that must be told a task, or a sentence, in an environment of several in turn: each
    episode's own, by its name. Nothing where the run needs none, or is asked for one."""
    names = getattr(env, "task_names", ())
    must = [wish for wish in WISHES if wish in run.wishes and run.wishes[wish].default is None]
    if not names or not must or must[0] in run.asked:
        return {}
    return {must[0]: [names[episode % len(names)] for episode in range(episodes)]}


def check_spaces(env: Any, name: str, run: Run | None) -> None:
    """Raise ReverieError where the environment's observations or actions are not those that the run was trained on."""
    from gymnasium.spaces import Box, Dict

    space = env.action_space
    if not isinstance(space, Box) or len(space.shape) not in (1, 2):
        raise ReverieError(f"{name} has the action space {space}; only vectors of continuous actions work.")
    observed = observation_fields(env.observation_space, name)
    if run is None:
        return
    goals = isinstance(env.observation_space, Dict) and is_goal_environment(env.observation_space.spaces)
    if isinstance(run.spec.observation_space, Field) and goals != takes_goal(run.algorithm, run.spec):
        kinds = ("observations without a goal", "an observation with a desired goal")
        raise ReverieError(
            f"{run.algorithm.name} acts on {kinds[not goals]} and {name} gives {kinds[goals]}; `reverie list` shows "
            "what each algorithm needs."
        )
    here = _shown(observed, run.spec.observation_space) if goals else observed
    for what, trained, found in (
        ("observations", run.spec.observation_space, here),
        (
            "actions",
            run.spec.action,
            Field(tuple(space.shape), "float32", "vector" if len(space.shape) == 1 else "agents"),
        ),
    ):
        if trained != found:
            raise ReverieError(
                f"The run has {what} that are {describe(trained)}, and those of {name} are {describe(found)}; "
                "evaluate it in the environment of its data."
            )


def _shown(observed: dict[str, Any], trained: Any) -> Any:
    """What a run is shown of a goal environment: the state, with the goal beside it; or, where it was trained on a
    dictionary, the parts that this had."""
    return observed["observation"] if isinstance(trained, Field) else {k: observed[k] for k in observed if k in trained}


def observation_fields(space: Any, name: str, inside: bool = False) -> Any:
    """What the observations of a Gymnasium space are: a Field, or a dictionary of Fields. Whole numbers are token ids
    only `inside` a dictionary, as in a data set. Raises ReverieError for what a data set cannot hold."""
    from gymnasium.spaces import Box, Dict, MultiDiscrete

    if isinstance(space, Dict):
        return {key: observation_fields(each, f"{name}'s {key!r}", True) for key, each in sorted(space.spaces.items())}
    axes = len(space.shape or ())
    if isinstance(space, Box) and space.dtype == np.uint8 and axes == 3:
        return Field(tuple(space.shape), "uint8", "image")
    if inside and isinstance(space, Box | MultiDiscrete) and np.issubdtype(space.dtype, np.integer) and axes == 1:
        return Field(tuple(space.shape), "int32", "tokens")
    if isinstance(space, Box) and axes in (1, 2):
        return Field(tuple(space.shape), "float32", "vector" if axes == 1 else "agents")
    raise ReverieError(
        f"{name} has the observation space {space}; vectors, images (uint8, channel last), token ids, several agents' "
        "vectors, and dictionaries of these, work."
    )
