"""What an evaluation measured, the intervals around it, and the scores it is put in proportion to."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from reverie.errors import RunError

if TYPE_CHECKING:
    from rich.table import Table

RESAMPLES = 5000
FILE = "evaluation.json"
PER_CENT = ("normalised", "success", "best", "violations")
"""How the names of what is given in per cent begin."""

MEASURES = {"normalised": "normalised", "success": "successes", "return": "returns"}
"""By which runs are compared, the first one that there is, and where its values are in a record."""


@dataclass(frozen=True)
class Reference:
    """Two returns between which a return is put in proportion: 0 at `low`, 100 at `high`."""

    low: float
    high: float
    note: str
    """Whose returns these are."""

    def normalise(self, returns: ArrayLike) -> np.ndarray:
        """100 · (return − low) / (high − low), any shape."""
        return 100.0 * (np.asarray(returns) - self.low) / (self.high - self.low)


_D4RL = "D4RL's reference (measured on the v2 environments)"
_RULES = "the mean returns of the data sets of random teams and of experts by rule"
REFERENCES = {
    "HalfCheetah-v5": Reference(-280.178953, 12135.0, _D4RL),
    "Hopper-v5": Reference(-20.272305, 3234.3, _D4RL),
    "Walker2d-v5": Reference(1.629008, 4592.3, _D4RL),
    "Ant-v5": Reference(-325.6, 3879.7, _D4RL),
    "mamujoco-halfcheetah": Reference(-280.178953, 12135.0, _D4RL),
    "mpe-spread": Reference(-78.1, -20.4, _RULES),
    "mpe-tag": Reference(2.4, 85.6, _RULES),
    "mpe-world": Reference(-6.1, 82.5, _RULES),
}
"""Random and expert returns (Fu et al. 2020, `d4rl/infos.py`) by today's id. The v5 environments are not the tasks they
were measured on, so the raw returns stand beside every normalised score. Those of MPE's worlds are of our own data."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval of a mean, or none where there was one value only."""

    low: float | None
    high: float | None
    count: int
    """Values it comes from."""

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return "none (1 value)"
        return f"[{self.low:.1f}, {self.high:.1f}]"


def bootstrap(values: ArrayLike, key: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The percentile bootstrap's 95 % interval of the mean (Efron 1979). Same values, same interval.

    It is too narrow for a handful of values: for 5 seeds it covers about 85 %. Values that are all equal give an
    interval of no width, which says nothing of the values to come.

    Args:
        values: [n], n at least 1. One value has no interval.
        key: of the resampling.
        resamples: number of resampled means.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    if n == 1:
        return Interval(None, None, 1)
    counts = np.random.default_rng(key).multinomial(n, np.full(n, 1 / n), size=resamples)
    low, high = np.percentile(values[0] + counts @ (values - values[0]) / n, [2.5, 97.5])
    return Interval(float(low), float(high), n)


@dataclass(frozen=True)
class Estimate:
    """A mean over S seeds and E episodes, and its two intervals."""

    mean: float
    episodes: Interval
    """Other episodes, the same trained seeds: the episodes (each a mean over seeds) are resampled."""
    seeds: Interval
    """Other trainings: the seeds (each a mean over episodes) are resampled."""


def estimate(values: ArrayLike) -> Estimate:
    """Mean and intervals of [S, E]."""
    values = np.asarray(values, np.float64)
    return Estimate(float(values.mean()), bootstrap(values.mean(axis=0)), bootstrap(values.mean(axis=1)))


def estimate_known(values: ArrayLike) -> Estimate:
    """As `estimate`, of [S, E] of which those that are NaN do not count; at least one must be known."""
    known = np.ma.masked_invalid(np.asarray(values, np.float64))
    return Estimate(float(known.mean()), *(bootstrap(known.mean(axis=axis).compressed()) for axis in (0, 1)))


@dataclass(frozen=True)
class Latency:
    """Milliseconds that one call of the policy took, for all environments together."""

    median: float
    p99: float
    first: float
    """The first call, which compiles and, for a planner, may plan; it is in neither of the others."""
    batch: int
    """Environments in a call."""


@dataclass(frozen=True, repr=False)
class Scores:
    """E episodes of each of S seeds in one environment. The arrays are [S, E]; every seed met the same E starts.

    Printed, it is the table that `reverie eval` shows.
    """

    environment: str
    policy: str
    seeds: tuple[int, ...]
    """Of the training."""
    step: int | None
    """Updates the policy was trained for; None where it was not trained."""
    seed: int
    """Of the evaluation."""
    returns: np.ndarray
    """Undiscounted, in the environment's own rewards."""
    lengths: np.ndarray
    """Steps."""
    terminated: np.ndarray
    """True where the task ended, False where the episode was cut."""
    latency: Latency
    successes: np.ndarray | None = None
    """True where the environment reported success at any step; None where it never reports any."""
    arrivals: np.ndarray | None = None
    """Steps until the first success, float; NaN where there is none; None where the environment never reports any."""
    bests: np.ndarray | None = None
    """The largest reward of a step; None where the environment never reports success."""
    costs: np.ndarray | None = None
    """Sums of what the environment reported as "cost"; None where it never reports any."""
    budget: np.ndarray | None = None
    """What the episodes were allowed to cost; None where nothing was said, or no cost is reported."""
    reference: Reference | None = None
    max_steps: int | None = None
    """After which the episodes were cut; None for the environment's own limit."""
    tasks: int = 1
    """That the environment has in turn: episode e is of task e mod `tasks`."""

    @property
    def normalised(self) -> np.ndarray | None:
        """The returns in per cent of the reference [S, E]; None without one."""
        return None if self.reference is None else self.reference.normalise(self.returns)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """Mean and intervals of "return" and "length"; of "normalised", "success" (per cent), "arrival" (steps, of the
        episodes that succeed) and "cost" where known, and in per cent of a budget "normalised cost" and the
        "violations", episodes that cost more; of the success in each of several tasks, and, where rewards are shares of
        a success, in [0, 1], of the "best reward" of an episode (per cent)."""
        measured = {
            "return": self.returns,
            "normalised": self.normalised,
            "success": None if self.successes is None else 100.0 * self.successes,
            "best reward": self._shares(),
            "cost": self.costs,
            **self._against_budget(),
            "length": self.lengths,
            **self._successes_by_task(),
        }
        found = {name: estimate(values) for name, values in measured.items() if values is not None}
        if self.arrivals is not None and not np.isnan(self.arrivals).all():
            found["arrival"] = estimate_known(self.arrivals)
        return found

    def _against_budget(self) -> dict[str, np.ndarray]:
        """Per cent, [S, E] each. Of no budget, and of an infinite one, there is no share."""
        if self.costs is None or self.budget is None:
            return {}
        shares = {}
        if np.isfinite(self.budget).all() and (self.budget > 0).all():
            shares["normalised cost"] = 100.0 * self.costs / self.budget
        return shares | {"violations": 100.0 * (self.costs > self.budget)}

    def _shares(self) -> np.ndarray | None:
        """Per cent; None where rewards are no shares, or are 1 at a success and 0 else."""
        best = self.bests
        if best is None or best.min() < 0 or best.max() > 1 or not ((best > 0) & (best < 1)).any():
            return None
        return 100.0 * best

    def _successes_by_task(self) -> dict[str, np.ndarray]:
        """Per cent, [S, E / tasks] each, of the tasks that were met."""
        if self.successes is None or self.tasks == 1:
            return {}
        of_task = {k: 100.0 * self.successes[:, k :: self.tasks] for k in range(self.tasks)}
        return {f"success, task {k + 1}": values for k, values in of_task.items() if values.size}

    def table(self) -> "Table":
        """For the terminal: one line a quantity, with both intervals."""
        from rich.table import Table

        seeds, episodes = self.returns.shape
        table = Table(title=f"{self.policy} in {self.environment}", title_justify="left", caption=self._caption())
        for heading in ("", "mean", f"95 % over {_count(episodes, 'episode')}", f"95 % over {_count(seeds, 'seed')}"):
            table.add_column(heading, justify="left" if not heading else "right")
        for name, found in self.estimates.items():
            unit = " (steps)" if name == "arrival" else " %" if name.startswith(PER_CENT) else ""
            table.add_row(name + unit, f"{found.mean:.1f}", str(found.episodes), str(found.seeds))
        return table

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as shown:
            console.print(self.table())
        return shown.get().rstrip()

    def _caption(self) -> str:
        latency, lines = self.latency, []
        if self.max_steps is not None:
            lines.append(f"episodes cut after {self.max_steps} steps")
        if self.reference is not None:
            low, high = self.reference.low, self.reference.high
            lines.append(f"normalised: 0 at {low:.1f}, 100 at {high:.1f}, {self.reference.note}")
        lines.append(f"{latency.median:.2f} ms a call (99 %: {latency.p99:.2f} ms) for {latency.batch} environments")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: everything measured, and the estimates."""
        plain = {key: value for key, value in vars(self).items() if not isinstance(value, np.ndarray)}
        arrays = {
            "returns": self.returns,
            "lengths": self.lengths,
            "terminated": self.terminated,
            "successes": self.successes,
            "bests": self.bests,
            "costs": self.costs,
            "budget": self.budget,
            "normalised": self.normalised,
        }
        plain |= {
            "seeds": list(self.seeds),
            "latency": vars(self.latency),
            "reference": None if self.reference is None else vars(self.reference),
            **{key: None if value is None else value.tolist() for key, value in arrays.items()},
            "arrivals": _plain(self.arrivals),
        }
        estimates = {
            name: {"mean": found.mean, "episodes": vars(found.episodes), "seeds": vars(found.seeds)}
            for name, found in self.estimates.items()
        }
        return {**plain, "estimates": estimates}

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict())

    def save(self, path: str | Path) -> None:
        """Appends to a JSON file of lists by environment; what is there stays. Written whole or not at all.

        Raises RunError when the file is there and is no such JSON.
        """
        from filelock import FileLock

        path = Path(path)
        with FileLock(f"{path}.lock"):
            found = read(path)
            record = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **self.to_dict()}
            found.setdefault(self.environment, []).append(record)
            fresh = path.with_name(f"{path.name}.tmp")
            fresh.write_text(json.dumps(found) + "\n")
            os.replace(fresh, path)


def _plain(values: np.ndarray | None) -> list | None:
    """[S, E] as lists, with None for NaN, which JSON lacks."""
    return None if values is None else [[None if np.isnan(x) else float(x) for x in row] for row in values]


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def read(path: Path) -> dict[str, list]:
    """The records in a file that `save` wrote, by environment; none if there is no file. Raises RunError otherwise."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    except json.JSONDecodeError:
        pass
    raise RunError(f"{str(path)!r} is no evaluation of a run; move it away, or repair it.")
