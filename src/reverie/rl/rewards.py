"""The scales of rewards that papers choose for their tasks."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from reverie.data import Dataset, Gaussian
from reverie.errors import DataError


def _moments(data: Dataset) -> tuple[float, float]:
    fitted = Gaussian.fit(data.require_rewards()[:, None])  # which knows a constant when it sees one
    return float(fitted.mean[0]), float(fitted.std[0]) or 1.0


def _span(data: Dataset) -> tuple[float, float]:
    if len(data.episodes) == len(data) and not data.terminals.all():
        name = data.attributes.get("name", "this data set")
        raise DataError(
            f"rewards 'returns' divides by the span of the episodes' returns, and every episode of {name!r} is a "
            "single step of a longer one; choose 'standard' or 'raw', or join these data with real episodes."
        )
    return 0.0, float(np.ptp(data.returns)) / 1000 or 1.0


REWARDS: dict[str, Callable[[Dataset], tuple[float, float]]] = {
    "raw": lambda data: (0.0, 1.0),
    "standard": _moments,
    "returns": _span,
    "minus-one": lambda data: (1.0, 1.0),
    "antmaze": lambda data: (0.5, 0.25),
}
"""What is taken from the rewards, and what they are divided by: as they are; standardised (Diffusion-QL in Adroit);
such that the episodes' returns span 1000 (IQL in locomotion); r - 1 (IQL in AntMaze); 4 (r - 1/2) (Diffusion-QL there).
"""

Rewards = Literal["raw", "standard", "returns", "minus-one", "antmaze"]
"""A scale's name."""
