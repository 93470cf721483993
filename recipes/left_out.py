"""A task that training left out, told by a demonstration: python recipes/left_out.py --out FOLDER

Of the compass's eight tasks one is left out of the data. MTDiff-p, and behaviour cloning by the same prompts, are then
told each task by the first steps of a demonstration, that of the task left out too. Which goals are reached?

Writes OUT/left_out.json and .md; what is there is not made again.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measured import once, read

import reverie
from reverie.baselines import MTBC
from reverie.collection import make_dataset
from reverie.data import Dataset
from reverie.environments.compass import TASKS, Compass
from reverie.evaluation.statistics import aggregate
from reverie.planners import MTDiffPlanner

STEPS = 8
"""Of a prompt."""
METHODS: dict[str, tuple[Any, int]] = {
    "mt-bc": (MTBC(told="prompt", prompt_steps=STEPS, learning_rate=1e-3, decay_updates=8000), 8000),
    "mtdiff-p": (
        MTDiffPlanner(
            prompt_steps=STEPS,
            horizon=16,
            batch_size=32,
            learning_rate=2e-3,
            decay_updates=4000,
            ema_start=1000,
            ema_decay=0.97,
        ),
        4000,
    ),
}
"""And their updates."""


class One(Compass):
    """The compass with one task, of which nothing is told."""

    task_names: Any = ()

    def __init__(self, name: str):
        super().__init__()
        self.only = TASKS.index(name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed, options=options)
        self.task = self.only
        return self._seen()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/left_out"))
    parser.add_argument("--tasks", nargs="+", default=["north", "south-east"], choices=TASKS, metavar="TASK")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--updates", type=int, default=0, help="of each method, its own if 0")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=40)
    options = parser.parse_args(arguments)
    data, file = make_dataset("compass"), options.out / "left_out.json"
    for method in options.methods:
        for task in options.tasks:
            once(file, {"method": method, "left out": task}, lambda m=method, t=task: measured(m, t, data, options))
    (options.out / "left_out.md").write_text(markdown(read(file)))
    print(markdown(read(file)))


def measured(method: str, left_out: str, data: Dataset, options: argparse.Namespace) -> dict[str, Any]:
    """Successes of each task, `[S, E]`, by what was trained without one of them."""
    algorithm, steps = METHODS[method]
    kept, folder = without(data, left_out), options.out / f"{method}-without-{left_out}"
    run = reverie.fit(
        algorithm, kept, steps=options.updates or steps, seeds=options.seeds, out=folder, resume=True, progress=True
    )
    run, found = replace(run, path=None), {}  # scores go into this script's own file
    for task in TASKS:
        told = run.acting(task=prompt(data, task))
        scores = reverie.evaluate(told, lambda task=task: One(task), episodes=options.episodes)
        found[task] = scores.successes.astype(int).tolist()
    return {"successes": found}


def without(data: Dataset, name: str) -> Dataset:
    """The episodes of all tasks but one, which is not listed either."""
    names, number = data.attributes["tasks"], data.infos["task"]
    gone = names.index(name)
    kept = data.take_episodes(np.flatnonzero(number[data.episodes[:, 0]] != gone))
    numbers = kept.infos["task"] - (kept.infos["task"] > gone)
    left = [each for each in names if each != name]
    return replace(kept, infos={**kept.infos, "task": numbers}, attributes={**kept.attributes, "tasks": left})


def prompt(data: Dataset, name: str) -> np.ndarray:
    """The first steps of the task's episode of the highest return, `[STEPS, observation + action]`."""
    mine = np.flatnonzero(data.infos["task"][data.episodes[:, 0]] == data.attributes["tasks"].index(name))
    first = data.episodes[mine[np.argmax(data.returns[mine])], 0]
    rows = slice(first, first + STEPS)
    return np.concatenate([data.observations[rows], data.actions[rows]], 1)


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| method | left out | its goal reached, % (95 %) | the others', % (95 %) |", "|---|---|---|---|"]
    for row in rows:
        name, found = row["left out"], {task: np.array(each) for task, each in row["successes"].items()}
        own = aggregate({name: 100 * found.pop(name)})
        others = aggregate({task: 100 * each for task, each in found.items()})
        spans = [f"{each.value:.0f} ({each.low:.0f} to {each.high:.0f})" for each in (own, others)]
        lines.append(f"| {' | '.join((row['method'], name, *spans))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
