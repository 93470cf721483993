"""What makes two libraries' work equal, counted before anything is timed; unequal work is refused."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.timing import Work

TOLERANCE = 0.06
"""By how much the parameters of two networks may differ, in parts of the peer's: the values of Diffuser's are built
otherwise, ours with one halving of the window more."""
LEAST_MOVE = 1e-3
"""By how much an evaluation must change the sample, which has entries of order 1, to count."""


class UnequalError(Exception):
    """The two sides would not do the same work."""


@dataclass
class Side:
    """One library's way to do a row's work."""

    work: Work
    units: int = 1
    """Updates in one run of the work."""
    flops: float = 0.0
    """Of one unit."""
    nfe: dict[str, list[int]] | None = None
    """Examples in each evaluation of each network, in one unit."""


@dataclass
class Row:
    """A line of the table: what is done, by whom."""

    name: str
    ours: Side
    theirs: dict[str, Side] = field(default_factory=dict)
    """CleanDiffuser as it runs, and compiled."""


@dataclass
class Counts:
    """Parameters of a network on both sides."""

    name: str
    ours: int
    theirs: int | None = None

    def __str__(self) -> str:
        if self.theirs is None:
            return f"{self.name} {self.ours:,}"
        return f"{self.name} {self.ours:,} against {self.theirs:,} ({100 * (self.ours / self.theirs - 1):+.1f} %)"


def check_parameters(counts: Counts) -> None:
    if counts.theirs is not None and abs(counts.ours / counts.theirs - 1) > TOLERANCE:
        raise UnequalError(
            f"{counts}: the parameters differ by more than {100 * TOLERANCE:.0f} %; build both networks of one size"
        )


def check_nfe(row: Row) -> None:
    for name, side in row.theirs.items():
        if side.nfe != row.ours.nfe:
            raise UnequalError(
                f"{row.name}: the examples in each evaluation are {row.ours.nfe} and {name} {side.nfe}; "
                "give both the same candidates, sampling steps and batches"
            )


def check_flops(row: Row) -> None:
    for name, side in row.theirs.items():
        if abs(row.ours.flops / side.flops - 1) > 2 * TOLERANCE:
            raise UnequalError(
                f"{row.name}: matrix products of {row.ours.flops:.3g} floating-point operations and {name} "
                f"{side.flops:.3g}; something is computed on one side only"
            )


def check_moves(name: str, moves: list[float], nfe: int) -> None:
    """Every one of so many evaluations must move the sample."""
    if len(moves) != nfe or min(moves) < LEAST_MOVE:
        found = ", ".join(f"{move:.1e}" for move in moves)
        raise UnequalError(
            f"{name}: of {nfe} network evaluations the sample was moved by {found}; every one should count"
        )


def our_moves(algorithm: Any, size: tuple[int, ...], network: Callable) -> list[float]:
    """How far each evaluation in our chain moves its sample."""
    import jax
    import numpy as np

    from reverie.diffusion import sample

    key = jax.random.key(0)
    options = {"nfe": algorithm.nfe or algorithm.diffusion_steps, "solver": algorithm.solver}
    options |= getattr(algorithm, "sampling", {})
    denoiser = algorithm.process.denoiser(network)
    _, past = sample(algorithm.process, denoiser, key, size, history=True, **options)
    first = jax.random.normal(jax.random.split(key)[0], size) * algorithm.process.prior_scale
    return [float(np.abs(step).max()) for step in np.diff(np.stack([first, *past]), axis=0)]


@dataclass
class Plan:
    """What a workload measures, when it has been found to be equal."""

    counts: list[Counts]
    rows: list[Row]


def check(plan: Plan) -> None:
    """Raise UnequalError where the two sides of a workload would not do the same."""
    for counts in plan.counts:
        check_parameters(counts)
    for row in plan.rows:
        counted = Row(row.name, row.ours, {name: side for name, side in row.theirs.items() if side.nfe})
        check_nfe(counted)
        check_flops(counted)
