"""Evaluation while a run trains, as further columns of its metrics."""

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from reverie.environments.registry import make
from reverie.errors import ReverieError
from reverie.evaluation.rollout import RunPolicy, environment_name, episode_starts, number_episodes, play, reference_of
from reverie.evaluation.scores import Reference
from reverie.evaluation.spaces import check_spaces
from reverie.training.run import Run


@dataclass
class Evaluate:
    """A callback of `fit`: every so many updates all seeds act, on the same starts each time.

    Its columns are `eval_return`, and `eval_normalised`, `eval_success` (per cent) and `eval_cost` where known; empty
    in the rows between. One object may serve several trainings, one after another. It keeps its environments from one
    evaluation to the next, until `close`, the end of a `with` block, or its own.
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
        check_spaces(self._envs[0], name, run)
        played = play(RunPolicy(run, self.seed), self._envs, starts * seeds, self.max_steps)
        found = {"eval_return": played.returns}
        self._reference = self._reference or reference_of(
            name, self._envs[: self.episodes], starts, self.max_steps, self.seed
        )
        if self._reference:
            found["eval_normalised"] = self._reference.normalise(played.returns)
        if played.reports_success:
            found["eval_success"] = 100.0 * played.succeeded
        if played.costs is not None:
            found["eval_cost"] = played.costs
        return {name: values.reshape(seeds, -1).mean(1) for name, values in found.items()}

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
