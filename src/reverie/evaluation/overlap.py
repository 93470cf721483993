"""Where synthetic rows lie among real ones, in the plane in which the real ones differ most."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reverie.data import Dataset
from reverie.evaluation.data_pictures import standardised
from reverie.evaluation.fidelity import sides
from reverie.evaluation.plots import BLUE, DISTINCT, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Overlap:
    """Rows (observation, action, reward and next observation) as points of a plane, in standard deviations."""

    real: np.ndarray
    """`[n, 2]`."""
    made: np.ndarray
    """`[n, 2]`."""
    shares: np.ndarray
    """Of the real rows' variance that each axis has: `[2]`."""


def overlap(made: Dataset, real: Dataset, rows: int = 2000, seed: int = 0) -> Overlap:
    """So many rows of each, in the plane of the first two principal components of the other real rows, standardised.

    Raises DataError as `fidelity` does.
    """
    judged, held, others = sides(made, real, rows, np.random.default_rng(seed))
    known = others.table[: 5 * rows]
    _, scale, axes = np.linalg.svd(standardised(known), full_matrices=False)
    real_points, made_points = (standardised(side.table, known) @ axes[:2].T for side in (held, judged))
    return Overlap(real_points, made_points, scale[:2] ** 2 / (scale**2).sum())


def draw_overlap(found: Overlap) -> "Figure":
    """Real rows, synthetic ones, and both: what is real and not made shows in the last, and so does the reverse."""
    shown = {"real": [(found.real, BLUE)], "synthetic": [(found.made, DISTINCT[1])]}
    shown["both"] = [*shown["real"], *shown["synthetic"]]
    low, high = (np.percentile(np.concatenate([found.real, found.made]), at, axis=0) for at in (0.2, 99.8))
    margin = 0.08 * (high - low)
    with panels(3, width=3.3, height=3.2) as (figure, axes):
        for ax, (title, layers) in zip(axes, shown.items(), strict=True):
            for points, colour in layers:
                ax.scatter(*points.T, s=3, color=colour, alpha=0.35, linewidths=0)
            ax.set(title=title, xlim=(low[0] - margin[0], high[0] + margin[0]))
            ax.set(ylim=(low[1] - margin[1], high[1] + margin[1]))
            ax.set_xlabel(f"first component, {100 * found.shares[0]:.0f} % of the variance", fontsize=8)
        axes[0].set_ylabel(f"second, {100 * found.shares[1]:.0f} %", fontsize=8)
    return figure
