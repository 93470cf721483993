"""A trial on the disk: what it tries, how far it is, what it scored; and the commands that make it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from reverie.catalogue import find
from reverie.errors import RunError
from reverie.settings import is_real, option

FOLDER, RUNS, TOGETHER = "trials", "runs", "together"


@dataclass(frozen=True)
class Trial:
    """One training with its evaluation."""

    number: int
    settings: Mapping[str, Any]
    """What is searched, by name: fields of the method, or `method` and `data`."""
    state: Literal["running", "done", "failed"] = "running"
    attempts: int = 0
    """Processes that were started for it."""
    score: float | None = None
    """The mean over seeds and episodes."""
    seeds: tuple[float, ...] = ()
    """Of every seed."""
    minutes: float = 0.0
    """Of all attempts."""
    why: str = ""
    """It failed."""

    @property
    def name(self) -> str:
        return f"{self.number:03d}"

    def changed(self, **values: Any) -> Trial:
        return replace(self, **values)

    def write(self, out: Path) -> Self:
        """Whole, or not at all."""
        path = out / FOLDER / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".tmp")
        fresh.write_text(json.dumps(dataclasses.asdict(self)) + "\n")
        os.replace(fresh, path)
        return self


def read(out: Path) -> list[Trial]:
    """All that were begun, by number. Raises RunError for a file that is no trial."""
    found = []
    for path in sorted((out / FOLDER).glob("*.json")):
        try:
            values = json.loads(path.read_text())
            settings = {k: tuple(v) if isinstance(v, list) else v for k, v in values.pop("settings").items()}
            found.append(Trial(settings=settings, **values | {"seeds": tuple(values["seeds"])}))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RunError(f"{str(path)!r} is no trial of a sweep ({error}); move it away.") from None
    return found


@dataclass(frozen=True)
class Work:
    """How every trial is trained and scored."""

    method: str = ""
    data: str = ""
    steps: int = 0
    seeds: int = 1
    env: str | None = None
    episodes: int = 20
    online: bool = False
    """Learning in `env` instead of from data."""
    more: tuple[str, ...] = ()
    """Further arguments of every training."""

    def alike(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Whether one program can train both settings, by the types of what they differ in."""
        cls = find(first.get("method", self.method))
        return all(
            is_real(cls, name) and {type(first[name]), type(second[name])} <= {int, float}
            for name in first
            if first[name] != second[name]
        )

    def train(self, trials: Sequence[Trial], out: Path) -> list[str]:
        """Arguments of `reverie`; what was begun goes on. Several trials are trained by one program, for which a file
        is written that has what they differ in."""
        first = trials[0].settings
        same = {name: value for name, value in first.items() if all(t.settings[name] == value for t in trials)}
        where = ["--out", str(out / RUNS / trials[0].name)]
        if len(trials) > 1:
            own = {t.name: {name: t.settings[name] for name in first if name not in same} for t in trials}
            path = out / TOGETHER / f"{trials[0].name}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(own, indent=2) + "\n")
            where = ["--out", str(out / RUNS), "--settings", str(path)]
        return self.words(same, where)

    def words(self, settings: Mapping[str, Any], where: Sequence[str]) -> list[str]:
        settings = dict(settings)
        method, data = settings.pop("method", self.method), settings.pop("data", self.data)
        words = ["online" if self.online else "train", method, "--steps", str(settings.pop("steps", self.steps))]
        words += ["--env", str(self.env)] if self.online else ["--data", data]
        words += ["--seeds", str(self.seeds), "--resume", *where, *self.more]
        return words + [word for name, value in settings.items() for word in option(name, value)]

    def evaluate(self, trial: Trial, out: Path, seed: int = 0) -> list[str] | None:
        """Arguments of `reverie`; None where nothing is evaluated."""
        if self.env is None:
            return None
        words = ["eval", str(out / RUNS / trial.name), "--env", self.env, "--episodes", str(self.episodes)]
        return [*words, "--seed", str(seed)]
