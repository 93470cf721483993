"""What a sweep tries: a grid, random draws, or Optuna's proposals. A proposal depends on its number and on what is
finished alone, so that a sweep that was killed goes on as if it had not been."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from reverie.errors import ReverieError
from reverie.settings import literal

Settings = Mapping[str, Any]
Search = Literal["grid", "random", "optuna"]


@dataclass(frozen=True)
class Choices:
    """Some values."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[rng.integers(len(self.values))]


@dataclass(frozen=True)
class Range:
    """All from `low` to `high`, whole numbers where both are; evenly in the logarithm where `log`."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def draw(self, rng: np.random.Generator) -> Any:
        if self.whole and not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        ends = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = rng.uniform(*ends)
        value = math.exp(value) if self.log else value
        return round(value) if self.whole else float(value)


Space = Mapping[str, Choices | Range]


def parse(words: Sequence[str]) -> dict[str, Choices | Range]:
    """NAME=VALUE,VALUE,... for choices, NAME=LOW..HIGH for a range, NAME=log:LOW..HIGH for one in the logarithm.

    Values are as Python writes them where they are such, else text; several numbers of one field stand in brackets:
    hidden=[64,64],[256,256]. Raises ReverieError for anything else, and for a name that comes twice.
    """
    space: dict[str, Choices | Range] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise ReverieError(f"{word!r} is no NAME=VALUE,VALUE,... or NAME=LOW..HIGH, such as tau=0.005,0.02")
        if name in space:
            raise ReverieError(f"{name!r} is to be searched twice; write all of its values in one {name}=...")
        space[name.replace("-", "_")] = _range(word, text) if ".." in text else Choices(_values(text))
    return space


def _values(text: str) -> tuple[Any, ...]:
    try:
        found = ast.literal_eval(f"({text},)")
    except (ValueError, SyntaxError):
        return tuple(literal(part) for part in text.split(","))
    return tuple(tuple(value) if isinstance(value, list) else value for value in found)


def _range(word: str, text: str) -> Range:
    log = text.startswith("log:")
    low, high = (literal(end) for end in text.removeprefix("log:").split("..", 1))
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or not low < high or (log and low <= 0):
        wanted = "two positive numbers, the smaller one first" if log else "two numbers, the smaller one first"
        raise ReverieError(f"{word!r} is no range; give {wanted}, as in learning_rate=log:1e-5..1e-3")
    return Range(low, high, log)


def count(search: Search, space: Space, trials: int | None) -> int:
    """How many are tried. Raises ReverieError for a grid with a range in it, and where nobody says how many."""
    if search == "grid":
        if ranges := [name for name, each in space.items() if isinstance(each, Range)]:
            raise ReverieError(f"A grid has no range, and {ranges[0]} is one; list its values, or search at random.")
        whole = math.prod(len(each.values) for each in space.values() if isinstance(each, Choices))
        return min(whole, trials or whole)
    if trials is None or trials < 1:
        raise ReverieError(f"trials = {trials}: say how many are to be tried where the search is {search}.")
    return trials


def propose(
    search: Search, space: Space, number: int, seed: int, finished: Sequence[tuple[Settings, float]],
    running: Sequence[Settings] = (), lowest: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The settings of the trial of that number; `finished` are those tried before it with their scores."""
    if search == "grid":
        grid = itertools.product(*(each.values for each in space.values() if isinstance(each, Choices)))
        return dict(zip(space, next(itertools.islice(grid, number, None)), strict=True))
    if search == "random":
        rng = np.random.default_rng((seed, number))
        return {name: each.draw(rng) for name, each in space.items()}
    return _optuna(space, seed + number, finished, running, lowest)


def _optuna(space: Space, seed: int, finished: Any, running: Any, lowest: bool) -> dict[str, Any]:
    """By its tree-structured Parzen estimator (Bergstra et al. 2011; Akiba et al. 2019)."""
    try:
        import optuna
    except ImportError:
        raise ReverieError('The search "optuna" needs optuna: pip install "reverie[sweep]".') from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given: dict[str, Any] = {}
    for name, each in space.items():
        if isinstance(each, Choices):
            given[name] = optuna.distributions.CategoricalDistribution(range(len(each.values)))
        else:
            kinds = optuna.distributions
            kind: Any = kinds.IntDistribution if each.whole else kinds.FloatDistribution
            given[name] = kind(each.low, each.high, log=each.log)
    sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    study = optuna.create_study(direction="minimize" if lowest else "maximize", sampler=sampler)
    create, states = optuna.trial.create_trial, optuna.trial.TrialState
    for settings, score in finished:
        study.add_trial(create(params=_coded(space, settings), distributions=given, value=score))
    for settings in running:
        study.add_trial(create(params=_coded(space, settings), distributions=given, state=states.RUNNING))
    asked = study.ask(given).params
    return {n: each.values[asked[n]] if isinstance(each, Choices) else asked[n] for n, each in space.items()}


def _coded(space: Space, settings: Settings) -> dict[str, Any]:
    """Choices by their places: Optuna takes only some types of values."""
    return {
        n: each.values.index(settings[n]) if isinstance(each, Choices) else settings[n] for n, each in space.items()
    }
