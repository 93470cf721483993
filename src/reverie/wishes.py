"""What a trained method can be asked for when it acts: a target return, a cost budget, a goal, a skill, a sentence.

A method declares its wishes; `run.acting(target_return=3600)`, `--acting target_return=3600` and `policy.reset` take
them by name. How long a wish holds is the method's affair: until the episode's end, or until it is changed.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.errors import ReverieError, ReverieWarning

Wishes = Mapping[str, Any]
"""Arrays `[n, *shape]` by name, one row an environment."""


@dataclass(frozen=True)
class Wish:
    """Something that a method can be asked for when it acts."""

    help: str
    """What it is, for tables and messages."""
    unit: str = ""
    """Such as "return" or "m"; nothing for a number without one."""
    shape: tuple[int, ...] = ()
    """Of the wish of one environment; () is a number."""
    dtype: Any = np.float32
    default: Any = None
    """What holds where nothing is asked for; None where something must be. Where it depends on the other wishes, such
    as on the task, a function of these as `resolve` gives them, to an array `[n, *shape]`."""
    low: float | None = None
    """Smallest value seen in training: one below is warned of."""
    high: float | None = None
    """Largest value seen in training."""
    encode: Callable[[Sequence[str]], np.ndarray] | None = None
    """Of what is asked for in words: the texts of n environments as arrays `[n, *shape]`. None: it is numbers."""
    choices: Mapping[str, Any] | None = None
    """Arrays of this shape, of at least two axes, that may be asked for by their names, or by their numbers, from 0."""


def resolve(method: str, declared: Mapping[str, Wish], asked: Mapping[str, Any], n: int) -> dict[str, np.ndarray]:
    """Every declared wish for n environments, `[n, *shape]`: as asked for (one for all, or one each), or its default.

    Raises ReverieError for a name that is not declared, for a shape that is another, for a value that is no number (or
    no text, where that is asked for), none of its choices or NaN, and where something must be asked for and is not.
    Warns of values outside the range seen in training.
    """
    check_known(method, declared, asked)
    given = {name: asked.get(name, wish.default) for name, wish in declared.items()}
    known = {
        name: _resolved(method, name, declared[name], value, n) for name, value in given.items() if not callable(value)
    }
    rest = {name: value(known) for name, value in given.items() if callable(value)}
    known |= {name: _resolved(method, name, declared[name], value, n) for name, value in rest.items()}
    return {name: known[name] for name in declared}


def check_known(method: str, declared: Mapping[str, Wish], asked: Mapping[str, Any]) -> None:
    """Raise ReverieError for a name that is not declared."""
    if unknown := [name for name in asked if name not in declared]:
        known = ", ".join(declared) or "nothing"
        raise ReverieError(f"{method} cannot be asked for {unknown[0]!r}; it can be asked for {known}.")


def _resolved(method: str, name: str, wish: Wish, value: Any, n: int) -> np.ndarray:
    if value is None:
        raise ReverieError(f"{method} must be told {name} ({wish.help}); give it, as in --acting {name}=...")
    if wish.encode is not None:
        value = _encoded(name, wish.encode, value)
    if wish.choices is not None:
        value = _chosen(name, wish.choices, value)
    try:
        array = np.asarray(value, wish.dtype)
    except (TypeError, ValueError):
        raise ReverieError(f"{name} = {value!r} is {type(value).__name__}, and must be {_shape(wish)}.") from None
    if array.shape not in (wish.shape, (n, *wish.shape)):
        raise ReverieError(
            f"{name} has shape {array.shape}, and must be {_shape(wish)}, or one for each of the {n} environments."
        )
    if np.issubdtype(array.dtype, np.inexact) and np.isnan(array).any():
        raise ReverieError(f"{name} = {value!r} holds NaN, which nothing can reach; give numbers, or leave it out.")
    _warn_of_range(name, wish, array)
    return np.array(np.broadcast_to(array, (n, *wish.shape)))


def _encoded(name: str, encode: Callable[[Sequence[str]], np.ndarray], value: Any) -> np.ndarray:
    """Of a text for all environments, or one for each of them."""
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence | np.ndarray) else [value]
    if wrong := [each for each in texts if not isinstance(each, str)]:
        raise ReverieError(f"{name} = {wrong[0]!r} is {type(wrong[0]).__name__}, and must be a text, such as 'go on'.")
    arrays = encode(texts)
    return arrays[0] if isinstance(value, str) else arrays


def _chosen(name: str, choices: Mapping[str, Any], value: Any) -> Any:
    """What a name or a number stands for, or several of them, one for each environment; arrays as they are."""
    several = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    asked, names = list(value) if several else [value], list(choices)
    if not all(isinstance(each, str | int | np.integer) for each in asked):
        return value
    numbers = [names.index(each) if each in choices else -1 if isinstance(each, str) else int(each) for each in asked]
    if unknown := [each for each, number in zip(asked, numbers, strict=True) if not 0 <= number < len(names)]:
        some = ", ".join(map(repr, names[:10])) + (" or others" if len(names) > 10 else "")
        raise ReverieError(f"{name} = {unknown[0]!r} is none of 0 to {len(names) - 1}, or by name {some}.")
    found = np.stack([choices[names[number]] for number in numbers])
    return found if several else found[0]


def _shape(wish: Wish) -> str:
    return f"an array of shape {wish.shape}" if wish.shape else "a number"


def _warn_of_range(name: str, wish: Wish, array: np.ndarray) -> None:
    low, high = -np.inf if wish.low is None else wish.low, np.inf if wish.high is None else wish.high
    outside = array[(array < low) | (array > high)]
    if outside.size:
        warnings.warn(
            f"{name} = {outside.flat[0]:g} is outside what was seen in training, {low:g} to {high:g}.",
            ReverieWarning,
            stacklevel=4,
        )
