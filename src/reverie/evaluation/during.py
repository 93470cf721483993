"""Evaluation while a run trains, as further columns of its metrics."""

import csv
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from reverie.environments.registry import make
from reverie.errors import ReverieError
from reverie.evaluation.acting import RunPolicy
from reverie.evaluation.rollout import environment_name, episode_starts, number_episodes, play, reference_of
from reverie.evaluation.scores import Reference
from reverie.evaluation.spaces import check_spaces, own_tasks, shown
from reverie.paths import replacing
from reverie.training.run import Run

EPISODES = "episodes.csv"
"""In a run's folder."""


@dataclass
class Evaluate:
    """A callback of `fit`: every so many updates all seeds act, on the same starts each time.

    Its columns are `eval_return`, and `eval_normalised`, `eval_success` (per cent) and `eval_cost` where known; empty
    in the rows between. A run in a folder keeps every episode in `episodes.csv` there. One object may serve several
    trainings, one after another. It keeps its environments from one evaluation to the next, until `close`, the end of a
    `with` block, or its own.
    """

    env: str | Callable[[], Any]
    every: int
    """Updates (online: environment steps) between two evaluations, which come at the ends of segments."""
    episodes: int = 10
    seed: int = 0
    max_steps: int | None = None
    _envs: list = field(default_factory=list, repr=False, compare=False)
    _reference: Reference | None = field(default=None, repr=False, compare=False)
    """Of these episodes, which are the same each time: to measure it is as long as an evaluation."""

    def __post_init__(self) -> None:
        weakref.finalize(self, _close, self._envs)
        for name in ("every", "episodes"):
            if getattr(self, name) < 1:
                raise ReverieError(f"{name} = {getattr(self, name)} must be at least 1.")

    def on_segment(self, run: Run) -> Mapping[str, Any]:
        before = int(run.table.last("step"))  # of the segment before: this one's row is not there yet
        if run.step // self.every == before // self.every:
            return {"eval_return": np.nan}
        return self.scores(run)

    def scores(self, run: Run) -> dict[str, np.ndarray]:
        """Each seed's means `[S]`."""
        seeds, starts = len(run.seeds), episode_starts(self.seed, self.episodes)
        self._make(seeds * self.episodes)
        number_episodes(self._envs, self.episodes)
        name = environment_name(self.env, self._envs[0])
        policy = RunPolicy(run, self.seed, own_tasks(run, self._envs[0], self.episodes))
        seen = shown(self._envs, run)
        check_spaces(seen[0], name, run)
        played = play(policy, seen, starts * seeds, self.max_steps)
        found = {"eval_return": played.returns}
        self._reference = self._reference or reference_of(
            name, self._envs[: self.episodes], starts, self.max_steps, self.seed
        )
        if self._reference:
            found["eval_normalised"] = self._reference.normalise(played.returns)
        if played.reports_success:
            found |= {"eval_success": 100.0 * played.succeeded, "eval_best": 100.0 * played.bests}
        if played.costs is not None:
            found["eval_cost"] = played.costs
        by_seed = {name: values.reshape(seeds, -1) for name, values in found.items()}
        if run.path is not None:
            keep_episodes(Path(run.path), run, by_seed)
        return {name: values.mean(1) for name, values in by_seed.items()}

    def _make(self, n: int) -> None:
        """n environments: those there are, as far as they go."""
        _close(self._envs, keep=n)
        self._envs += [make(self.env) for _ in range(n - len(self._envs))]

    def close(self) -> None:
        """Close the environments; another evaluation makes new ones."""
        _close(self._envs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _close(envs: list, keep: int = 0) -> None:
    """Close all but the first `keep`, and take them out of the list."""
    while len(envs) > keep:
        envs.pop().close()


def keep_episodes(folder: Path, run: Run, found: Mapping[str, np.ndarray]) -> None:
    """Append an evaluation's values `[S, E]` to the folder's table of episodes: one row a seed and episode."""
    path, names = folder / EPISODES, list(found)
    text = path.read_text() if path.exists() else ",".join(("seed", "step", "episode", *names))
    lines = [
        ",".join(map(str, (seed, run.step, episode, *(float(found[name][s, episode]) for name in names))))
        for s, seed in enumerate(run.seeds)
        for episode in range(found[names[0]].shape[1])
    ]
    with replacing(str(path)) as fresh:
        fresh.write_text("\n".join([text.rstrip("\n"), *lines]) + "\n")


def read_episodes(folder: str | Path, name: str = "eval_return") -> dict[int, np.ndarray]:
    """Every evaluation during a run's training by its update: that value of every episode `[S, E]`; none where there
    was no evaluation, or it had no such value. Of an update evaluated twice, by a run that was killed and went on, the
    later evaluation."""
    path = Path(folder) / EPISODES
    with path.open(newline="") if path.exists() else nullcontext(()) as file:
        rows = [row for row in csv.DictReader(file) if name in row]
    found = {(int(row["step"]), int(row["seed"]), int(row["episode"])): float(row[name]) for row in rows}
    steps, seeds = sorted({step for step, _, _ in found}), sorted({seed for _, seed, _ in found})
    episodes = {step: sorted({e for at, _, e in found if at == step}) for step in steps}
    return {step: np.array([[found[step, s, e] for e in episodes[step]] for s in seeds]) for step in steps}
