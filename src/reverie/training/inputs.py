"""What an actor is given at a step: an observation in the types of the data, and the feedback of the last step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from reverie.data import Spec
from reverie.data.fields import Field
from reverie.errors import ReverieError
from reverie.protocols import GoalReaching, GoalSizing, Noticing, Signalled


def signals_of(algorithm: Any) -> tuple[str, ...]:
    """What the feedback of a step has: the reward, the cost, and the environment's further signals that are asked
    for."""
    return ("reward", "cost", *(algorithm.signals if isinstance(algorithm, Signalled) else ()))


def check_feedback(algorithm: Any, feedback: Mapping[str, Any]) -> None:
    """Raise ReverieError for a name that the method is told nothing of."""
    known = signals_of(algorithm)
    if unknown := [name for name in feedback if name not in known]:
        raise ReverieError(
            f"{unknown[0]!r} is no feedback that {algorithm.name} is told of; it can be told {', '.join(known)}."
        )


def notice(algorithm: Any, carry: Any) -> None:
    """Let a method that has something to say of its carry, by `notice`, say it."""
    if isinstance(algorithm, Noticing):
        algorithm.notice(carry)


def beside(state: Any, tree: Any) -> Any:
    """The tree where the state's arrays lie. What acting gives lies there too, and what a first step is given must:
    else the second, whose carry has come to lie elsewhere, is compiled anew."""
    places = [leaf.sharding for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array)]
    return jax.device_put(tree, places[0]) if places else tree


def takes_goal(algorithm: Any, spec: Spec) -> bool:
    """Whether the method acts on {"observation", "desired_goal"}: where it wants a goal beside the one vector that it
    was trained on. A goal that is a part of the observations is one of a dictionary's, and no matter of the method."""
    return isinstance(algorithm, GoalReaching) and algorithm.goals and isinstance(spec.observation_space, Field)


def blank_input(algorithm: Any, spec: Spec, n: int) -> Any:
    """Observations of n environments that are all zero, as `as_input` gives them."""
    if not takes_goal(algorithm, spec):
        return spec.blank(n)
    return {"observation": spec.blank(n), "desired_goal": np.zeros((n, _goal_size(algorithm, spec)), np.float32)}


def as_input(algorithm: Any, spec: Spec, observation: Any, *, axes: int = 0) -> Any:
    """An observation, or a batch with `axes` further axes in front, in the types of the data: images and token ids as
    such, all else as float32.

    Raises ReverieError where a dictionary's part is missing, or the dictionary, and for another size.
    """
    space = spec.observation_space
    if isinstance(space, Field) and takes_goal(algorithm, spec):
        seen, goal = _parts(observation, ("observation", "desired_goal"), f"{algorithm.name} acts on")
        seen = _array(seen, space, "The observation's 'observation'", axes)
        return {"observation": seen, "desired_goal": _goal(algorithm, spec, goal, seen.shape[:axes])}
    if isinstance(space, Field):
        if isinstance(observation, Mapping):
            raise ReverieError(
                f"The observation is a dictionary of {', '.join(observation)}; the run was trained on {space}."
            )
        return _array(observation, space, "The observation", axes)
    parts = _parts(observation, tuple(space), "the run was trained on")
    named = zip(space.items(), parts, strict=True)
    return {name: _array(part, field, f"The observation's {name!r}", axes) for (name, field), part in named}


def _goal_size(algorithm: Any, spec: Spec) -> int:
    return algorithm.goal_dim(spec) if isinstance(algorithm, GoalSizing) else spec.observation_dim


def _goal(algorithm: Any, spec: Spec, goal: Any, lead: tuple[int, ...]) -> np.ndarray:
    """Goals `[*lead, ...]`: of a method that says how large they are, of this size or whole observations, which begin
    with one."""
    array = np.asarray(goal, np.float32)
    sized = isinstance(algorithm, GoalSizing)
    if not sized:
        return array
    size, whole = _goal_size(algorithm, spec), spec.observation_dim
    if array.shape not in ((*lead, size), (*lead, whole)):
        raise ReverieError(
            f"The observation's 'desired_goal' has shape {list(array.shape[len(lead) :])}; {algorithm.name} takes "
            f"goals of {size} numbers, or whole observations of {whole}."
        )
    return array


def _parts(observation: Any, names: tuple[str, ...], wanted: str) -> list[Any]:
    """Of a dictionary, in the order of the names."""
    if not isinstance(observation, Mapping):
        raise ReverieError(f"The observation is no dictionary; {wanted} {', '.join(names)}.")
    if missing := [name for name in names if name not in observation]:
        raise ReverieError(f"The observation lacks {missing[0]!r}; {wanted} {', '.join(names)}.")
    return [observation[name] for name in names]


def _array(part: Any, field: Field, what: str, axes: int) -> np.ndarray:
    if field.kind == "image" and np.asarray(part).dtype.kind not in "ui":
        raise ReverieError(f"{what} has type {np.asarray(part).dtype}; give images as uint8, 0 to 255, as in training.")
    try:
        array = np.asarray(part, field.dtype)
    except (TypeError, ValueError):
        raise ReverieError(
            f"{what} is {type(part).__name__} that is no array; the run was trained on {field}."
        ) from None
    if array.ndim != axes + len(field.shape) or array.shape[axes:] != field.shape:
        raise ReverieError(f"{what} has shape {list(array.shape[axes:])}; the run was trained on {field}.")
    return array
