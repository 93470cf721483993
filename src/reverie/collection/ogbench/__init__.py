"""OGBench's sets (Park et al. 2024) made by its recipe from its package's own environments and oracles.

They are regenerated, and are not OGBench's files: those were made without a seed.
"""

from dataclasses import replace

from reverie.collection.ogbench.manipulation import Manipulation
from reverie.collection.ogbench.mazes import AGENT, AntMaze, PointMaze
from reverie.collection.recipe import Entry, Suite

__all__ = ["suite"]

STEPS = 1_000_000
VALIDATION = 10
"""A set for validation has so many times fewer episodes."""
NAVIGATE, STITCH = "from goal to goal", "to a goal 4 cells away"
PLAY, NOISY = "plans, one target after another", "a noisy oracle that sees the state alone, some random actions"


TASKS = (("cube-single", 330, 19), ("cube-double", 385, 21), ("scene", 370, 23), ("puzzle-3x3", 400, 22))
"""With the megabytes and minutes of a set."""


def _entries() -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for maze in ("medium", "large", "giant", "teleport"):
        for kind, length, about in (("navigate", 2000 if maze == "giant" else 1000, NAVIGATE), ("stitch", 200, STITCH)):
            recipe = PointMaze(f"pointmaze-{maze}-{kind}", length)
            found[recipe.name] = Entry(recipe, STEPS, f"a point, {about}", 40, 1)
    for maze in ("medium", "large") if AGENT.exists() else ():
        for kind, length, about in (("navigate", 1000, NAVIGATE), ("stitch", 200, STITCH)):
            ant = AntMaze(f"antmaze-{maze}-{kind}", length)
            found[ant.name] = Entry(ant, STEPS, f"an ant, {about}", 340, 6)
    for task, megabytes, minutes in TASKS:
        for kind, about in (("play", PLAY), ("noisy", NOISY)):
            hands = Manipulation(f"{task}-{kind}")
            found[hands.name] = Entry(hands, STEPS, about, megabytes, minutes)
    return found


def suite() -> Suite:
    entries = _entries()
    return Suite(
        "OGBench's recipe, by its own oracles; with -singletask-taskN behind a name also the rewards of a task",
        "OGBench (MIT), MuJoCo (Apache-2.0)",
        entries,
        validation={f"{name}-val": _validation(entry) for name, entry in entries.items()},
    )


def _validation(entry: Entry) -> Entry:
    """Of the same recipe, from other random numbers."""
    smaller = {key: getattr(entry, key) / VALIDATION for key in ("megabytes", "minutes")}
    recipe = replace(entry.recipe, stream=1)  # type: ignore[type-var]  # one of the three above
    return replace(entry, recipe=recipe, steps=entry.steps // VALIDATION, **smaller)
