"""Doing what is missing of a table: data, synthetic rows and cells, several at once, each resumable."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from reverie.engines import Engine
from reverie.sweeps.running import USER, Sweep, free_cores, run_reverie, waited
from tabling import results
from tabling.plans import Cell, Making, Plan

Task = Cell | Making


class Failed(Exception):
    """A command that ended with an error; its message is the last line it wrote."""


@dataclass
class State:
    """What the view shows of the work; the workers write it."""

    doing: dict[str, str] = field(default_factory=dict)
    """By label: "training", "evaluating", "generating", "done" or "failed"; what is not in it waits."""
    began: float = field(default_factory=time.perf_counter)
    data: str = ""
    """The set that is being made, if one is."""
    faults: dict[str, str] = field(default_factory=dict)
    """By label, why."""
    running: list[subprocess.Popen] = field(default_factory=list)
    stopped: bool = False
    """Whether nothing is to be begun any more."""
    beginning: Lock = field(default_factory=Lock)
    """Held while a command is begun, so that a stop finds it among those that run, or it is not begun."""

    def stop(self) -> None:
        """Interrupt what runs, which saves itself, and begin nothing more."""
        with self.beginning:
            self.stopped = True
            for process in list(self.running):
                process.send_signal(signal.SIGINT)

    def begin(self, words: list[str], log: Path) -> subprocess.Popen:
        """A command line, with its output in a log. Raises Failed after a stop."""
        with self.beginning:
            if self.stopped:
                raise Failed("not begun")
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as file:
                print("reverie", *words, file=file, flush=True)
                # A session of its own: a Ctrl-C at the terminal reaches it once, through `stop`.
                process = subprocess.Popen(
                    [sys.executable, "-m", "reverie.cli", *words], stdout=file, stderr=file, start_new_session=True
                )
            self.running.append(process)
        return process


@dataclass
class Worker:
    """The commands of tasks, each on the cores that are free."""

    minutes: float
    state: State
    tell: Callable[[Task | str], None]
    """Called when a task is done or has failed, and with a set's name when it is to be made."""
    keep: Callable[[], None]
    """Called when a cell is done, by one thread at a time."""
    engine: Engine | None = None
    """Where commands run: on a cluster, on this machine if None."""
    lock: Lock = field(default_factory=Lock)
    cores: "SimpleQueue[list[int] | None]" = field(default_factory=SimpleQueue)

    def work(self, plan: Plan, out: Path, jobs: int) -> None:
        """First the sets that the library makes, then what synthesizers make of them, then the cells."""
        self.cores = free_cores(jobs)
        cells = [cell for cell in plan.cells(out) if not self.finished(cell)]
        makings = dict.fromkeys(cell.making for cell in cells if cell.making)
        self.make_data(plan, list(dict.fromkeys(cell.set for cell in cells)), out)
        with ThreadPoolExecutor(jobs) as pool:
            for tasks in (list(makings), cells):
                list(pool.map(self.perform, tasks))

    def finished(self, cell: Cell) -> bool:
        if results.done(cell, self.minutes):
            self.state.doing[cell.label] = "done"
            return True
        return False

    def make_data(self, plan: Plan, sets: list[str], out: Path) -> None:
        """One after another, since each uses all cores; two trainings that need the same set would make it twice."""
        for name in plan.restricted(None, sets).named() if sets else ():
            self.state.data = name
            self.tell(name)
            try:
                self.command(["data", "info", name], out / plan.name / "data" / f"{name}.log", None)
            except Failed as fault:
                self.state.faults[f"data {name}"] = str(fault)
        self.state.data = ""

    def perform(self, task: Task) -> None:
        cores, state = self.cores.get(), self.state
        try:
            if isinstance(task, Making):
                self.make(task, cores)
            else:
                self.fill(task, cores)
            state.doing[task.label] = "done"
        except Failed as fault:
            state.doing[task.label], state.faults[task.label] = "failed", str(fault)
        finally:
            self.cores.put(cores)
        with self.lock:
            if isinstance(task, Cell):
                self.keep()
            self.tell(task)

    def make(self, making: Making, cores: list[int] | None) -> None:
        if making.file.exists():
            return
        log = making.file.with_suffix(".log")
        self.state.doing[making.label] = "training"
        self.command(making.train(), log, cores)
        self.state.doing[making.label] = "generating"
        self.command(making.generate(), log, cores)

    def fill(self, cell: Cell, cores: list[int] | None) -> None:
        log = cell.folder.with_name(f"{cell.set}.log")
        if cell.making and not cell.making.file.exists():
            raise Failed(f"there are no {cell.making.label}")
        left = 60 * self.minutes - results.reached(cell.folder).seconds
        if results.checkpoint(cell.folder) < cell.steps and left > 0:
            self.state.doing[cell.label] = "training"
            self.command(cell.train(), log, cores, left)
        self.state.doing[cell.label] = "evaluating"
        if results.evaluation(cell) is None:
            self.command(cell.evaluate(), log, cores)

    def command(self, words: list[str], log: Path, cores: list[int] | None, seconds: float | None = None) -> None:
        """Run the command line, with its output in a log. A training that outlasts the seconds is interrupted, which
        saves it. Raises Failed."""
        status = None
        for _ in range(1 + Sweep.retries):  # a training that died goes on from its checkpoint
            if status in (0, USER):
                break
            status = self.here(words, log, cores, seconds) if self.engine is None else self.there(words, log, seconds)
            if self.state.stopped:
                raise Failed("stopped")
        if status:
            said = [line for line in log.read_text().splitlines() if line.strip()]
            raise Failed(f"{said[-1].removeprefix('reverie: ')} (all of it in {log})")

    def here(self, words: list[str], log: Path, cores: list[int] | None, seconds: float | None) -> int:
        process = self.state.begin(words, log)
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        status = waited(process, seconds)
        self.state.running.remove(process)
        return status

    def there(self, words: list[str], log: Path, seconds: float | None) -> int:
        assert self.engine is not None
        log.parent.mkdir(parents=True, exist_ok=True)
        return self.engine.submit(run_reverie(1), words, str(log.absolute()), seconds).result()
