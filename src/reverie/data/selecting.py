"""A part of a data set, asked for in its source: `hopper-mixture@best=0.1`, `hopper-velocity-mixture@max_cost=25`; all
of it several times, `hopper-mixture@times=20`; or all of it otherwise, `hopper-mixture@chunk=4`."""

from collections.abc import Callable, Mapping
from math import ceil

import numpy as np

from reverie.data.dataset import Dataset
from reverie.data.in_chunks import in_chunks
from reverie.data.schemes import OPTIONS, SUFFIX
from reverie.data.views import costs_to_go
from reverie.errors import DataError


def best(data: Dataset, fraction: float) -> np.ndarray:
    """The episodes of the highest returns, that fraction of all (rounded up), in their order; of equal ones the first.

    Raises DataError for a fraction outside (0, 1], and where there are no rewards.
    """
    if not 0 < fraction <= 1:
        raise DataError(f"best={fraction:g} is no fraction of the episodes; give one above 0 and up to 1.")
    returns = data.returns
    count = ceil(round(fraction * len(returns), 9))  # 0.1 of 30 is 3, whatever floating point makes of it
    return np.sort(np.argsort(-returns, kind="stable")[:count])


def max_cost(data: Dataset, budget: float) -> np.ndarray:
    """The episodes that cost no more than this, in their order. Raises DataError where there is none, for a budget
    below 0, and where there are no costs."""
    if not budget >= 0:
        raise DataError(f"max_cost={budget:g} is less than nothing; give what an episode may cost, 0 or more.")
    costs = costs_to_go(data)[data.episodes[:, 0]]
    kept = np.flatnonzero(costs <= budget)
    if not kept.size:
        raise DataError(f"max_cost={budget:g} keeps no episode: the cheapest costs {costs.min():.4g}.")
    return kept


def every(data: Dataset, step: float) -> np.ndarray:
    """The first episode and each that is `step` further. Raises DataError for less than 1 or no whole number."""
    if step < 1 or step % 1:
        raise DataError(f"every={step:g} must be a whole number of at least 1: every so many episodes one is kept.")
    return np.arange(0, len(data.episodes), int(step))


def times(data: Dataset, count: float) -> np.ndarray:
    """All episodes, so often one set after another: a larger share of what several sources make together. Raises
    DataError for less than 1 or no whole number."""
    if not 1 <= count < np.inf or count % 1:
        raise DataError(f"times={count:g} must be a whole number of at least 1: so often the episodes are repeated.")
    return np.tile(np.arange(len(data.episodes)), int(count))


def _of_episodes(chosen: Callable[[Dataset, float], np.ndarray]) -> Callable[[Dataset, float], Dataset]:
    return lambda data, number: data.take_episodes(chosen(data, number))


SELECTIONS: dict[str, Callable[[Dataset, float], Dataset]] = {
    "best": _of_episodes(best),
    "every": _of_episodes(every),
    "max_cost": _of_episodes(max_cost),
    "times": _of_episodes(times),
    "chunk": in_chunks,
}


def parted(source: str) -> tuple[str, str, str] | None:
    """A source, and the name and the number of the selection at its end; None where it ends in none, or in what its
    reader is told (`schemes.OPTIONS`). Raises DataError for a selection that does not exist."""
    found = SUFFIX.fullmatch(source)
    options = OPTIONS.get(source.partition(":")[0], {})
    if found is None or found[2] in options:
        return None
    if found[2] not in SELECTIONS:
        raise DataError(_nothing(found[2], found[3], options))
    return found[1], found[2], found[3]


def _nothing(name: str, value: str, options: Mapping[str, str]) -> str:
    text, others = f"@{name}={value}", ", ".join(f"@{key}={each}" for key, each in options.items())
    message = f"{text!r} selects nothing; write @best=0.1 for the best tenth of the episodes by return, "
    message += "@max_cost=25 for those that cost at most 25, @chunk=4 for four actions in a row as one, "
    message += "@times=20 for all of it twenty times, "
    if not others:
        return message + "or @every=10 for every tenth episode."
    return message + f"@every=10 for every tenth episode, or of what is read {others}."


def select(data: Dataset, name: str, number: str) -> Dataset:
    """The selected episodes, or all of them in chunks or several times. Raises DataError for what cannot be had."""
    try:
        amount = float(number)
    except ValueError:
        raise DataError(_nothing(name, number, {})) from None
    return SELECTIONS[name](data, amount)
