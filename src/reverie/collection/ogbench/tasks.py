"""OGBench's single tasks: rewards for a set that was collected without, as its package gives them.

A set's name with "-singletask-task2" (or "-singletask": the default task) is that set with the rewards of the task.
A reward belongs to the state that an action is chosen in. Where the task is solved there is a terminal (a mask of 0 in
the package), and the trajectory goes on.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from reverie.data import Dataset
from reverie.data.checking import frozen
from reverie.data.fields import describe
from reverie.data.ogbench import read_ogbench
from reverie.environments.registry import make
from reverie.errors import DataError, ReverieError
from reverie.evaluation.spaces import observation_fields

_TASK = re.compile(r"(?P<set>.+?)(?P<task>-singletask(?:-task\d+)?)(?P<rest>(?:-v\d+)?(?:-val)?)")
_KIND = re.compile(r"(?P<maze>.+)-(?:navigate|stitch|explore|path|play|noisy)(?P<version>-v\d+)(?:-val)?")


def split_name(name: str) -> tuple[str, str]:
    """The set's name and "-singletask...", or "" where it is of no single task."""
    found = _TASK.fullmatch(name)
    return (found["set"] + found["rest"], found["task"]) if found else (name, "")


def read_file(path: str) -> Dataset:
    """As `read_ogbench`; of "PATH/cube-single-play-singletask-task2-v0.npz", where there is no such file, the data of
    "PATH/cube-single-play-v0.npz" with the rewards of the task.

    Raises DataError, with what was found and what was expected, where the data are of another environment.
    """
    given = Path(path)
    name, task = split_name(given.stem)
    if not task or given.expanduser().is_file():
        return read_ogbench(path)
    file = given.with_name(name + given.suffix)
    data = read_ogbench(str(file))
    named = _KIND.fullmatch(name)
    of_name = named and named["maze"] + named["version"]
    environment = data.attributes.get("environment", of_name)
    if environment is None:
        raise DataError(
            f"{str(file)!r} does not say of which environment it is; name it as OGBench does, such as "
            "'cube-single-play-v0.npz'."
        )
    if of_name not in (None, environment):
        raise DataError(
            f"{str(file)!r} is named as data of {of_name}, and says that it is of {environment}; give it a name that "
            "fits."
        )
    data = replace(data, attributes={**data.attributes, "environment": environment})
    return replace(single_task(data, task), attributes={**_about(data, task), "source": f"ogbench:{path}"})


def _about(data: Dataset, task: str) -> dict:
    environment = _task_of(str(data.attributes["environment"]), task)
    name, bracket, rest = str(data.attributes["name"]).partition(" (")
    return {**data.attributes, "name": f"{name}{task}{bracket}{rest}", "environment": environment}


def _task_of(environment: str, task: str) -> str:
    maze, _, version = environment.rpartition("-")
    return f"{maze}{task}-{version}"


def single_task(data: Dataset, task: str) -> Dataset:
    """The data with the task's rewards and terminals; their attributes name the environment that they are of.

    Raises DataError where they are of another one, or have no state of the simulator.
    """
    environment = _task_of(str(data.attributes["environment"]), task)
    try:
        env = make(environment)
    except ReverieError as error:
        raise DataError(str(error)) from error
    from ogbench.relabel_utils import relabel_dataset

    needed = _check_alike(data, env, environment)
    columns = {key: data.infos[key] for key in needed}
    relabel_dataset(environment, env, columns)
    env.close()
    solved = columns["masks"] == 0
    return replace(
        data,
        rewards=frozen(columns["rewards"].astype(np.float32)),
        terminals=frozen(solved),
        timeouts=frozen(data.last & ~solved),
        ends=frozen(data.last),
        terminals_known=True,
        attributes=_about(data, task),
    )


def _check_alike(data: Dataset, env, name: str) -> list[str]:
    """The infos that rewards are made of. Raises DataError where the data are not the environment's."""
    expected = observation_fields(env.observation_space, name)
    if expected != data.observation_space:
        raise DataError(
            f"The observations in the data are {describe(data.observation_space)}, and those of {name} are "
            f"{describe(expected)}; name the task of the data's own environment."
        )
    inner = env.unwrapped
    sizes = {"qpos": inner.model.nq}
    if hasattr(inner, "_target_button_states"):
        sizes["button_states"] = len(inner._target_button_states)
    for key, size in sizes.items():
        found = data.infos.get(key)
        if found is None or found.shape[1:] != (size,):
            there = "is missing" if found is None else f"has {found.shape[1:]} numbers a row"
            raise DataError(f"{key!r} {there}, and the rewards of {name} are made of {size}; give OGBench's own file.")
    return list(sizes)
