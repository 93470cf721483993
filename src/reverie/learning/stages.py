"""Trainings that do one thing after another: a behaviour model first, then values, then what needs both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Stage(NamedTuple):
    """A part of a training whose updates are all of a kind."""

    update: Callable[[Any, Any, Any], tuple[Any, dict[str, Any]]]
    """(state, batch, key) -> (state, metrics)"""
    updates: int | None = None
    """How many; None for all that follow."""
    begin: Callable[[Any, Any], Any] | None = None
    """(state, key) -> state, before its first update."""
    derive: Callable[[Any, Any, Any], dict[str, Any]] | None = None
    """(state, view, key) -> further rows `[M, ...]` of the view, such as actions sampled for every observation. They
    are no part of the checkpoint: a run that goes on derives them again, so they may depend only on what the stage's
    updates leave alone."""


def stages_of(algorithm: Any) -> tuple[Stage, ...]:
    """The algorithm's `stages`, or the one that its `update` makes."""
    return getattr(algorithm, "stages", None) or (Stage(algorithm.update),)


class Place(NamedTuple):
    """Which stage an update is of: updates first + 1 ... stop are (without a stop for the last)."""

    number: int
    first: int
    stop: int | None


def last_begins(algorithm: Any) -> int:
    """Updates before the last stage."""
    return sum(stage.updates or 0 for stage in stages_of(algorithm)[:-1])


def stage_at(algorithm: Any, done: int) -> Place:
    """The stage of the update that follows `done`."""
    first = 0
    for number, stage in enumerate(stages_of(algorithm)):
        if stage.updates is None or done < first + stage.updates:
            return Place(number, first, None if stage.updates is None else first + stage.updates)
        first += stage.updates
    raise ValueError(f"{algorithm.name} has no stage after {first} updates")
