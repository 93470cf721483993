"""Whole episodes of unequal lengths: how they are shared among parts, recorded, and laid one after another."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reverie.collection.recipe import Part, Rows, cut


def whole_episodes(steps: int, length: int, size: int, seed: int) -> list[Part]:
    """Parts of `size` episodes of about `length` steps: as many as come nearest to `steps`, at least one."""
    return cut(max(1, round(steps / length)) * length, size * length, seed)


def record(
    env: Any,
    start: int,
    act: Callable[[Any], np.ndarray],
    kept: Sequence[str],
    *,
    options: dict[str, Any] | None = None,
    most: int | None = None,
) -> Rows:
    """The episode from the reset with the seed `start` and these options to its end, or its first steps, `most`, with
    the infos whose names are `kept`, and its `costs` where the environment reports them.

    Parts of dictionaries are named by "observations/KEY", infos by "infos/KEY".
    """
    seen: list[Any] = [env.reset(seed=start, options=options)[0]]
    steps: list[dict[str, Any]] = []
    while not steps or not (steps[-1]["terminals"] or steps[-1]["timeouts"]):
        action = np.asarray(act(seen[-1]), np.float32)
        after, reward, terminal, timeout, info = env.step(action)
        seen.append(after)
        infos = {f"infos/{key}": info[key] for key in kept}
        cut = timeout or len(steps) + 1 == most
        ends = {"terminals": terminal, "timeouts": cut and not terminal}
        costs = {"costs": np.float32(info["cost"])} if "cost" in info else {}
        steps.append({"actions": action, "rewards": np.float32(reward)} | costs | ends | infos)
    return stacked("observations", seen[:-1]) | stacked("next_observations", seen[1:]) | one_by_one(steps)


def stacked(name: str, seen: list) -> Rows:
    """Observations as a column, of dictionaries as a column for each key."""
    if isinstance(seen[0], dict):
        return one_by_one([{f"{name}/{key}": value for key, value in one.items()} for one in seen])
    return {name: np.stack(seen)}


def one_by_one(steps: list[dict[str, Any]]) -> Rows:
    """A column for each name, from a dictionary for each step."""
    return {key: np.array([step[key] for step in steps]) for key in steps[0]}


def chained(episodes: list[Rows]) -> Rows:
    """One episode's rows after another's."""
    return {key: np.concatenate([each[key] for each in episodes]) for key in episodes[0]}
