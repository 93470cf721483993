"""What is kept of a table's runs: one small JSON file, from which tables and pictures are made when the runs are gone.

{"table": NAME, "cells": {METHOD: {SET: RECORD}}}, a record a line.
"""

import csv
import json
import platform
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reverie.compilation import cores
from reverie.evaluation.during import read_episodes
from reverie.paths import replacing
from tabling.plans import OUT, Cell, Plan

COLUMNS = {
    "normalised": ("normalised", 1.0),
    "success": ("successes", 100.0),
    "best": ("bests", 100.0),
    "return": ("returns", 1.0),
}
"""Of a plan's score: the entry in evaluation.json, and what it is multiplied by."""
ALMOST = 0.9
"""Of a cell's minutes: a training stopped after so much has had its time."""


@dataclass(frozen=True)
class Reached:
    """How far a training has come."""

    steps: int = 0
    seconds: float = 0.0
    """Of all its sessions, its evaluations included."""
    rate: float = 0.0
    """Updates a second of all seeds together, the median over segments after the first, which compiles."""


def reached(folder: Path, seeds: int = 1) -> Reached:
    """By the metrics of a run's folder."""
    file = folder / "metrics.csv"
    if not file.exists():
        return Reached()
    with file.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get("updates_per_second")]
    if not rows:
        return Reached()
    rates = [float(row["updates_per_second"]) for row in rows]
    return Reached(int(rows[-1]["step"]), float(rows[-1]["seconds"]), seeds * statistics.median(rates[seeds:] or rates))


def checkpoint(folder: Path) -> int:
    """Updates of the last one."""
    return max((int(each.name) for each in (folder / "checkpoints").glob("[0-9]*") if each.name.isdigit()), default=0)


def evaluation(cell: Cell) -> dict[str, Any] | None:
    """The last one of the last checkpoint with the plan's episodes; None where there is none."""
    file = cell.folder / "evaluation.json"
    found = json.loads(file.read_text()).get(cell.env, []) if file.exists() else []
    wanted = {"step": checkpoint(cell.folder), "max_steps": cell.plan.max_steps}
    found = [each for each in found if all(each[key] == value for key, value in wanted.items())]
    found = [each for each in found if len(each["returns"][0]) == cell.plan.episodes]
    # "bc (candidates=4)" acted otherwise than the cell says.
    found = [each for each in found if "(" not in each.get("policy", "")]
    return found[-1] if found else None


def done(cell: Cell, minutes: float) -> bool:
    """Evaluated at the end of its training, or where its time was over."""
    over = reached(cell.folder).seconds >= ALMOST * 60 * minutes
    return evaluation(cell) is not None and (over or checkpoint(cell.folder) >= cell.steps)


def record(cell: Cell, shown: Cell) -> dict[str, Any] | None:
    """What is kept of a cell; None where it is not evaluated. `shown` is the cell as the plan's file has it: its
    commands are those that anyone can run."""
    scores = evaluation(cell)
    if scores is None:
        return None
    key, factor = COLUMNS[cell.plan.score]
    if scores[key] is None:
        raise ValueError(f"{cell.env} tells no {key}, which {cell.plan.name}'s score {cell.plan.score!r} is made of")
    progress = reached(cell.folder, len(scores["seeds"]))
    versions = json.loads((cell.folder / "config.json").read_text())["versions"]
    return {
        "commands": shown.written(),
        "own_data": cell.plan.sets[cell.set].source != shown.plan.sets[cell.set].source,
        "hardware": hardware(),
        "versions": {**versions, "python": platform.python_version()},
        "date": scores["date"],
        "steps": cell.steps,
        "updates": scores["step"],
        "minutes": round(progress.seconds / 60, 2),
        "updates_per_second": round(progress.rate, 1),
        "milliseconds_to_act": round(scores["latency"]["median"], 2),
        "seeds": scores["seeds"],
        "scores": _rounded(factor * np.array(scores[key], float)),
        "mean_return": round(float(np.mean(scores["returns"])), 1),
        **beside(cell, scores),
        "curve": curve(cell),
    }


def beside(cell: Cell, scores: dict[str, Any]) -> dict[str, Any]:
    """The means of the plan's further measures, as `reverie eval` estimates them; None where it cannot."""
    if not cell.plan.beside:
        return {}
    known = scores.get("estimates", {})
    means = {name: round(known[name]["mean"], 2) if name in known else None for name in cell.plan.beside}
    return {"beside": means}


def curve(cell: Cell) -> dict[str, Any] | None:
    """The seeds' means at every evaluation while training, and the change of each episode in the last quarter."""
    found = read_episodes(cell.folder, f"eval_{cell.plan.score}")
    found = {step: values for step, values in found.items() if step <= checkpoint(cell.folder)}
    if not found:
        return None
    steps = sorted(found)
    earlier = [step for step in steps if step <= 0.75 * steps[-1] * (1 + 1e-9)]
    last = None
    if earlier:
        between = [earlier[-1], steps[-1]]
        last = {"steps": between, "change": _rounded(found[between[1]] - found[between[0]])}
    return {"steps": steps, "scores": [_rounded(found[step].mean(1)) for step in steps], "last_quarter": last}


def hardware() -> str:
    """In words."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return f"{cores()} cores, {named[1].strip() if named else platform.machine()}"


def _rounded(values: np.ndarray) -> list:
    return np.round(np.asarray(values, float), 2).tolist()


def load(path: Path) -> dict[str, dict[str, dict]]:
    """The records of a file by method and set; none if there is no file."""
    return json.loads(path.read_text())["cells"] if path.exists() else {}


def save(path: Path, name: str, cells: dict[str, dict[str, dict]]) -> None:
    """A record a line, so that a change is seen as one."""
    methods = [
        f"  {json.dumps(method)}: {{\n"
        + ",\n".join(f"   {json.dumps(key)}: {json.dumps(row)}" for key, row in cells[method].items())
        + "\n  }"
        for method in cells
    ]
    with replacing(str(path)) as fresh:
        fresh.write_text(f'{{\n "table": {json.dumps(name)},\n "cells": {{\n' + ",\n".join(methods) + "\n }\n}\n")


def gather(plan: Plan, whole: Plan, out: Path, path: Path) -> dict[str, dict[str, dict]]:
    """The records of the file, renewed by the runs that are there, and written if that changed anything."""
    cells = load(path)
    before = json.dumps(cells)
    for cell in plan.cells(out):
        found = record(cell, Cell(whole, cell.method, cell.set, OUT))
        if found is not None:
            kept = cells.setdefault(cell.method, {}).get(cell.set, {})
            # Where the same evaluation is there already, the machine that made it is told, not the one that reads it.
            if kept.get("date") != found["date"]:
                cells[cell.method][cell.set] = found
    if json.dumps(cells) != before:
        save(path, plan.name, cells)
    return cells


def is_cut(row: dict) -> bool:
    """Whether the training was stopped before its end."""
    return row["updates"] < row["steps"]


def seconds_left(progress: Reached, steps: int, expected: float) -> float:
    """Of a training, by its own rate once it has one."""
    if progress.steps and progress.seconds:
        return max(0.0, (steps - progress.steps) * progress.seconds / progress.steps)
    return 60 * expected
