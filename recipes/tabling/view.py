"""What is seen while a table is filled: a grid of all cells on a terminal, a line a finished cell elsewhere."""

import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from tabling import results
from tabling.plans import Cell, Making, Plan
from tabling.work import State, Task

EVERY = 2.0
"""Seconds between two looks at the runs' folders."""


@dataclass
class View:
    """Reads the state and the folders, and changes nothing."""

    plan: Plan
    out: Path
    state: State
    minutes: float
    jobs: int

    def follow(self, work: Callable[[], None]) -> None:
        """Do the work in the background and show it until it has ended. Raises what it raised, and KeyboardInterrupt
        after what runs has saved itself."""
        from rich.console import Console
        from rich.live import Live

        raised: list[BaseException] = []

        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        console = Console(stderr=True)
        try:
            if console.is_terminal:
                with Live(self.shown(), console=console, auto_refresh=False) as live:
                    while thread.is_alive():
                        thread.join(EVERY)
                        live.update(self.shown(), refresh=True)
            while thread.is_alive():  # with a timeout, so that Ctrl-C is heard
                thread.join(EVERY)
        except KeyboardInterrupt:
            print("Stopping: what runs is saved first.", file=sys.stderr)
            self.state.stop()
            thread.join()
            raise
        if raised:
            raise raised[0]

    def line(self, task: Task | str) -> str:
        """Of a task that has ended, or of a set that is to be made."""
        spent = (time.perf_counter() - self.state.began) / 60
        if isinstance(task, str):
            return f"[{spent:5.1f} min] data {task}"
        ended = [cell for cell in self.plan.cells(self.out) if self.state.doing.get(cell.label) in ("done", "failed")]
        count = f"{len(ended)}/{len(self.plan.cells())} cells"
        what = self.state.faults.get(task.label) or (self.cell(task) if isinstance(task, Cell) else "made")
        return f"[{spent:5.1f} min] {count}; {task.label}: {what}; {_duration(self.left())} left"

    def shown(self) -> Any:
        """The grid between its title and what is left to do."""
        from rich.console import Group
        from rich.text import Text

        return Group(Text(self.plan.title), self.grid(), Text(self.caption(), style="dim"))

    def grid(self) -> Any:
        """The table as it is, with what each cell is doing."""
        from rich.table import Table

        grid = Table()
        for heading in ("", *self.plan.sets):
            grid.add_column(heading)
        cells = {(cell.method, cell.set): cell for cell in self.plan.cells(self.out)}
        for method in self.plan.methods:
            shown = (cells.get((method, name)) for name in self.plan.sets)
            grid.add_row(method, *(self.coloured(cell) if cell else "" for cell in shown))
        for making in self.plan.makings(self.out):
            grid.add_row(f"[dim]{making.synthesizer}'s rows", *(self.made(making, name) for name in self.plan.sets))
        return grid

    def coloured(self, cell: Cell) -> str:
        colour = {"done": "green", "failed": "red", "training": "yellow", "evaluating": "yellow"}
        return f"[{colour.get(self.state.doing.get(cell.label, ''), 'dim')}]{self.cell(cell)}"

    def made(self, making: Making, name: str) -> str:
        return self.state.doing.get(making.label, "waiting") if self.plan.sets[name].source == making.source else ""

    def cell(self, cell: Cell) -> str:
        """waiting, training 37 % at 95/s, 4:10 left, evaluating, or the score with the minutes of training."""
        doing = self.state.doing.get(cell.label, "waiting")
        if doing == "training":
            progress = results.reached(cell.folder, cell.plan.seeds)
            if not progress.steps:
                return "training begins"
            share = f"{100 * progress.steps / cell.steps:.0f} % at {progress.rate / cell.plan.seeds:.3g}/s"
            return f"training {share}, {_duration(self.training_left(cell))} left"
        if doing == "done" and (found := results.evaluation(cell)):
            key, factor = results.COLUMNS[cell.plan.score]
            score = factor * float(np.mean(found[key])) if found[key] is not None else float("nan")
            return f"{score:.1f} in {results.reached(cell.folder).seconds / 60:.1f} min"
        return doing

    def training_left(self, cell: Cell) -> float:
        progress = results.reached(cell.folder)
        left = results.seconds_left(progress, cell.steps, cell.expected)
        return min(left, max(0.0, 60 * self.minutes - progress.seconds))

    def left(self) -> float:
        """Seconds until all is done: what waits takes as long as other cells of its method did, or as is expected."""
        took: dict[str, list[float]] = {}
        waiting: list[Cell] = []
        total = 0.0
        for cell in self.plan.cells(self.out):
            doing = self.state.doing.get(cell.label, "waiting")
            if doing == "done":
                took.setdefault(cell.method, []).append(results.reached(cell.folder).seconds)
            elif doing == "training":
                total += self.training_left(cell)
            elif doing == "waiting":
                waiting.append(cell)
        for cell in waiting:
            known = took.get(cell.method)
            total += statistics.mean(known) if known else self.training_left(cell)
        for making in self.plan.makings(self.out):
            if self.state.doing.get(making.label, "waiting") == "waiting" and not making.file.exists():
                total += 60 * making.expected
        return total / self.jobs

    def caption(self) -> str:
        ended = sum(self.state.doing.get(cell.label) in ("done", "failed") for cell in self.plan.cells())
        spent = _duration(time.perf_counter() - self.state.began)
        data = f"; making {self.state.data}" if self.state.data else ""
        faults = "".join(f"\n{label}: {fault}" for label, fault in self.state.faults.items())
        return f"{ended} of {len(self.plan.cells())} cells, {spent} spent, {_duration(self.left())} left{data}{faults}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
