"""The processes of a sweep: on this machine or on a Ray cluster, tried again where they die, and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from reverie.engines import Engine, Kind
from reverie.engines import engine as engine_of
from reverie.errors import ReverieError, RunError
from reverie.sweeps import results
from reverie.sweeps.space import Search, Space, count, propose
from reverie.sweeps.trials import RUNS, Trial, Work, read
from reverie.training import folder
from reverie.training.packing import diverged

FILE, LOGS = "sweep.json", "logs"
USER = 2
"""The exit status for what trying again cannot mend: a wrong setting, or a loss that is not finite."""

Attempt = Callable[..., int]
"""(arguments of `reverie`, file to whose end its output goes, seconds that a training may take) -> exit status"""


@dataclass(frozen=True)
class Sweep:
    """What is tried, how, and how it is scored."""

    space: Space
    work: Work
    search: Search = "grid"
    trials: int | None = None
    """To try; the whole grid if None."""
    seed: int = 0
    """Of the search."""
    by: str | None = None
    """The score: normalised, success or return of the evaluation, the first one there is if None, or a metric."""
    lowest: bool = False
    """The best score is the lowest."""
    retries: int = 2
    """Times that a process which died is started again, to go on from its checkpoint."""
    together: int = 1
    """Trials at most in one program, where they differ in fields of type float alone."""

    @property
    def config(self) -> dict[str, Any]:
        space = {name: {"kind": type(each).__name__, **vars(each)} for name, each in self.space.items()}
        plain = dataclasses.asdict(dataclasses.replace(self, space={}))
        return json.loads(json.dumps(plain | {"space": space}))


def sweep(
    asked: Sweep,
    out: Path,
    *,
    jobs: int = 1,
    engine: Kind = "local",
    attempt: Attempt | None = None,
    say: Callable[[str], None] = print,
) -> list[Trial]:
    """Try all, `jobs` at a time, and go on with what is there; write the table of results after each.

    Killed, it goes on by the same call: trials that are done stay, those that had begun go on from their checkpoints.
    Raises RunError where the folder has another sweep or another process sweeps in it, and ReverieError for a search
    that cannot be.
    """
    total, out = count(asked.search, asked.space, asked.trials), Path(out).expanduser().resolve()
    with folder.locked(out):
        _settle(asked, out)
        chosen, free = engine_of(engine, jobs), free_cores(jobs) if engine == "local" else None
        try:
            return _Sweeping(asked, out, total, chosen, attempt or run_reverie(jobs, free), say).run(jobs)
        except KeyboardInterrupt:
            say("Stopped; the same command goes on.")
            raise
        finally:
            chosen.shutdown(wait=False)


def _settle(asked: Sweep, out: Path) -> None:
    path = out / FILE
    if not path.exists():
        path.write_text(json.dumps(asked.config, indent=2) + "\n")
        return
    before, now = json.loads(path.read_text()), asked.config
    for key in now:
        if key not in ("trials", "retries", "together") and before.get(key) != now[key]:
            raise RunError(
                f"The sweep in {str(out)!r} was begun with {key} = {before.get(key)} and not {now[key]}; give the "
                "same, or another folder."
            )


class _Sweeping:
    """One call of `sweep`."""

    def __init__(self, asked: Sweep, out: Path, total: int, engine: Engine, attempt: Attempt, say: Callable):
        self.asked, self.out, self.total, self.engine, self.attempt, self.say = asked, out, total, engine, attempt, say
        self.trials = {trial.number: trial for trial in read(out)}
        self.waiting = [number for number in range(total) if self.state(number) != "done"]

    def state(self, number: int) -> str:
        return self.trials[number].state if number in self.trials else "none"

    def run(self, jobs: int) -> list[Trial]:
        pending: dict[Future, tuple[list[int], float]] = {}
        (self.out / LOGS).mkdir(exist_ok=True)
        while self.waiting or pending:
            while self.waiting and len(pending) < jobs:
                numbers = self.group([number for group, _ in pending.values() for number in group])
                trials = [self.trials[number] for number in numbers]
                job = _attempt, self.attempt, self.asked.work, trials, self.out
                pending[self.engine.submit(*job)] = (numbers, time.time())
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                numbers, since = pending.pop(future)
                minutes = (time.time() - since) / 60 / len(numbers)
                for number, status in zip(numbers, _statuses(future, len(numbers)), strict=True):
                    self.settle(self.trials[number], status, minutes)
        return [self.trials[number] for number in sorted(self.trials)]

    def group(self, running: Sequence[int]) -> list[int]:
        """The next trial that waits, with those that one program can train with it."""
        first = self.begun(self.waiting.pop(0), running)
        numbers = [first.number]
        for number in list(self.waiting):
            if len(numbers) < self.asked.together:
                beside = [*running, *numbers]
                if self.asked.work.alike(first.settings, self.settings(number, beside)):
                    numbers.append(self.begun(number, beside).number)
                    self.waiting.remove(number)
        return numbers

    def settings(self, number: int, running: Sequence[int]) -> Mapping[str, Any]:
        return self.trials[number].settings if number in self.trials else self.proposed(number, running)

    def begun(self, number: int, running: Sequence[int]) -> Trial:
        """The trial, from now on on the disk; one that failed before has its attempts anew."""
        before = self.trials.get(number)
        if before is None or before.state == "failed":
            before = Trial(number, self.settings(number, running))
        trial = before.changed(attempts=before.attempts + 1).write(self.out)
        self.trials[number] = trial
        return trial

    def proposed(self, number: int, running: Sequence[int]) -> dict[str, Any]:
        done = [t for _, t in sorted(self.trials.items()) if t.state == "done" and t.score is not None]
        finished = [(trial.settings, float(trial.score or 0.0)) for trial in done]
        beside = [self.trials[each].settings for each in running]
        asked = self.asked
        return propose(asked.search, asked.space, number, asked.seed, finished, beside, asked.lowest)

    def settle(self, trial: Trial, status: int, minutes: float) -> None:
        trial = trial.changed(minutes=trial.minutes + minutes)
        if status == 0:
            try:
                seeds = results.scored(trial, self.out, self.asked.by, self.asked.work.env is not None)
                trial = trial.changed(state="done", seeds=seeds, score=sum(seeds) / len(seeds), why="")
            except ReverieError as error:
                trial = trial.changed(state="failed", why=str(error))
        elif status != USER and trial.attempts <= self.asked.retries:
            self.waiting.insert(0, trial.number)
        else:
            trial = trial.changed(state="failed", why=self.said(trial) or f"exit status {status}")
        self.trials[trial.number] = trial.write(self.out)
        results.write([self.trials[number] for number in sorted(self.trials)], self.out)
        self.say(self.line(trial, status))

    def said(self, trial: Trial) -> str:
        """Why it diverged beside others, or the last line of its output."""
        if why := diverged(self.out / RUNS / trial.name):
            return why
        log = self.out / LOGS / f"{trial.name}.txt"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
        return lines[-1].strip() if lines else ""

    def line(self, trial: Trial, status: int) -> str:
        words = " ".join(f"{name}={value}" for name, value in trial.settings.items())
        done = sum(each.state == "done" for each in self.trials.values())
        how = {"done": f"{trial.score:.4g}" if trial.score is not None else "", "failed": f"failed: {trial.why}"}
        told = how.get(trial.state) or f"died with status {status}, and is started again"
        return f"{done} of {self.total}: {trial.name} {words}: {told}"


def _statuses(future: Future, count: int) -> list[int]:
    """Of what ran; a cluster's worker may be lost with its machine, which is none."""
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return [-1] * count if error else future.result()


def _attempt(attempt: Attempt, work: Work, trials: Sequence[Trial], out: Path) -> list[int]:
    """Train and evaluate; the status of each trial's first command that fails, else 0."""
    logs = [str(out / LOGS / f"{trial.name}.txt") for trial in trials]
    status = attempt(work.train(trials, out), logs[0])
    if status == USER and len(trials) > 1 and not any(folder.holds_run(out / RUNS / trial.name) for trial in trials):
        # What differs cannot be an input of the method's program, or one of them is wrong: each by itself.
        return [each for trial in trials for each in _attempt(attempt, work, [trial], out)]
    found = []
    for trial, log in zip(trials, logs, strict=True):
        trained = status == 0 or (status == USER and len(trials) > 1 and not diverged(out / RUNS / trial.name))
        words = work.evaluate(trial, out) if trained else None
        found.append(attempt(words, log) if words else 0 if trained else status)
    return found


def free_cores(jobs: int) -> SimpleQueue[list[int] | None]:
    """The cores of each job; None where they cannot be told apart. Two programs of small networks on a core each do
    half as much again as two that take turns on both: each has as many threads as cores that it may use."""
    cores: list[int] = sorted(os.sched_getaffinity(0)) if jobs > 1 and hasattr(os, "sched_getaffinity") else []
    free: SimpleQueue[list[int] | None] = SimpleQueue()
    for job in range(jobs):
        free.put(cores[job % len(cores) :: min(jobs, len(cores))] if cores else None)
    return free


def run_reverie(jobs: int, free: SimpleQueue[list[int] | None] | None = None) -> Attempt:
    """Processes that share the cores. While one runs, it has those that it takes from `free`, if that is given."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    shared = {"XLA_FLAGS": flags.strip(), "OMP_NUM_THREADS": str(threads)} if jobs > 1 else {}

    def attempt(words: list[str], log: str, seconds: float | None = None) -> int:
        cores = free.get() if free else None
        try:
            with open(log, "a") as file:
                command = [sys.executable, "-m", "reverie.cli", *words]
                process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | shared)
                if cores:
                    os.sched_setaffinity(process.pid, cores)
                return waited(process, seconds)
        finally:
            if free:
                free.put(cores)

    return attempt


def waited(process: subprocess.Popen, seconds: float | None = None) -> int:
    """The exit status of a command. A training that outlasts the seconds is interrupted, which saves it: that is 0."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        status = process.wait()
        return 0 if status == 130 else status
