"""Evaluation while a run trains, as further columns of its metrics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reverie.environments.registry import make
from reverie.errors import ReverieError
from reverie.evaluation.rollout import RunPolicy, environment_name, episode_starts, play, reference_of
from reverie.evaluation.spaces import check_spaces
from reverie.training.run import Run


@dataclass
class Evaluate:
    """A callback of `fit`: every so many updates all seeds act, on the same starts each time.

    Its columns are `eval_return`, and `eval_normalised` and `eval_success` (per cent) where they are known; empty in
    the rows between. The environments are made once.
    """

    env: str | Callable[[], Any]
    every: int
    """Updates between two evaluations, which come at the ends of segments."""
    episodes: int = 10
    seed: int = 0
    max_steps: int | None = None
    _envs: list = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
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
        seeds = len(run.seeds)
        if not self._envs:
            self._envs = [make(self.env) for _ in range(seeds * self.episodes)]
            check_spaces(self._envs[0], environment_name(self.env, self._envs[0]), run)
        starts = episode_starts(self.seed, self.episodes)
        played = play(RunPolicy(run, self.seed), self._envs, starts * seeds, self.max_steps)
        found = {"eval_return": played.returns}
        name = environment_name(self.env, self._envs[0])
        if reference := reference_of(name, self._envs[: self.episodes], starts, self.max_steps, self.seed):
            found["eval_normalised"] = reference.normalise(played.returns)
        if played.reports_success:
            found["eval_success"] = 100.0 * played.succeeded
        return {name: values.reshape(seeds, -1).mean(1) for name, values in found.items()}
