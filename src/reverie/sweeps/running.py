"""The processes of a sweep: on this machine or on a Ray cluster, tried again where they die, and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.engines import Engine, Kind
from reverie.engines import engine as engine_of
from reverie.errors import ReverieError, RunError
from reverie.sweeps import results
from reverie.sweeps.space import Search, Space, count, propose
from reverie.sweeps.trials import Trial, Work, read
from reverie.training import folder

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
        chosen = engine_of(engine, jobs)
        try:
            return _Sweeping(asked, out, total, chosen, attempt or run_reverie(jobs), say).run(jobs)
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
        if key not in ("trials", "retries") and before.get(key) != now[key]:
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
        pending: dict[Future, tuple[int, float]] = {}
        while self.waiting or pending:
            while self.waiting and len(pending) < jobs:
                trial = self.begun(self.waiting.pop(0), [number for number, _ in pending.values()])
                words = [self.asked.work.train(trial, self.out), self.asked.work.evaluate(trial, self.out)]
                given = [each for each in words if each is not None]
                log = self.out / LOGS / f"{trial.name}.txt"
                log.parent.mkdir(exist_ok=True)
                pending[self.engine.submit(_attempt, self.attempt, given, str(log))] = (trial.number, time.time())
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                number, since = pending.pop(future)
                self.settle(self.trials[number], _status(future), (time.time() - since) / 60)
        return [self.trials[number] for number in sorted(self.trials)]

    def begun(self, number: int, running: Sequence[int]) -> Trial:
        """The trial, from now on on the disk; one that failed before has its attempts anew."""
        before = self.trials.get(number)
        if before is None or before.state == "failed":
            settings = before.settings if before else self.proposed(number, running)
            before = Trial(number, settings)
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
        """The last line of its output."""
        log = self.out / LOGS / f"{trial.name}.txt"
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
        return lines[-1].strip() if lines else ""

    def line(self, trial: Trial, status: int) -> str:
        words = " ".join(f"{name}={value}" for name, value in trial.settings.items())
        done = sum(each.state == "done" for each in self.trials.values())
        how = {"done": f"{trial.score:.4g}" if trial.score is not None else "", "failed": f"failed: {trial.why}"}
        told = how.get(trial.state) or f"died with status {status}, and is started again"
        return f"{done} of {self.total}: {trial.name} {words}: {told}"


def _status(future: Future) -> int:
    """Of what ran; a cluster's worker may be lost with its machine, which is none."""
    error = future.exception()
    if error is not None and not isinstance(error, Exception):
        raise error
    return -1 if error else future.result()


def _attempt(attempt: Attempt, commands: list[list[str]], log: str) -> int:
    """The status of the first command that fails, else 0."""
    return next((status for words in commands if (status := attempt(words, log))), 0)


def run_reverie(jobs: int) -> Attempt:
    """Processes that share the cores."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    shared = {"XLA_FLAGS": flags.strip(), "OMP_NUM_THREADS": str(threads)} if jobs > 1 else {}

    def attempt(words: list[str], log: str, seconds: float | None = None) -> int:
        with open(log, "a") as file:
            command = [sys.executable, "-m", "reverie.cli", *words]
            return waited(subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | shared), seconds)

    return attempt


def waited(process: subprocess.Popen, seconds: float | None = None) -> int:
    """The exit status of a command. A training that outlasts the seconds is interrupted, which saves it: that is 0."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        status = process.wait()
        return 0 if status == 130 else status
