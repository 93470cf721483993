"""The frame of every policy of one step: which transitions it learns from, and how it acts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from reverie.checks import check_fields
from reverie.data import Dataset, Gaussian, MinMax, Spec, transitions
from reverie.errors import DataError
from reverie.training.state import optimiser


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


@dataclass(frozen=True)
class StepPolicy:
    """A policy without memory that is learned from transitions.

    Networks see actions in [-1, 1], whatever their bounds are, and observations as they come or standardised. An
    algorithm adds `init`, `update` and `choose`.
    """

    role: ClassVar = "policy"
    needs: ClassVar[tuple[str, ...]] = ()
    """Of "rewards" and "terminals", those without which the data is refused."""
    acting_fields: ClassVar[tuple[str, ...]] = ()
    limits: ClassVar[dict[str, Any]] = {"batch_size": 1, "learning_rate": (1e-12, 1.0), "decay_updates": 0}
    """The smallest value, or the smallest and the largest, of the fields that have them."""

    hidden: tuple[int, ...] = (256, 256)
    """Widths of the networks' hidden layers."""
    batch_size: int = 256
    """Transitions an update."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    decay_updates: int = 0
    """Updates over which the actor's learning rate falls to 0 by a cosine; 0 for a constant rate."""
    gradient_clip: float = 0.0
    """Largest norm of a gradient; 0 for any."""
    standardise: bool = False
    """Whether the networks see observations of mean 0 and deviation 1."""

    def __post_init__(self):
        check_fields(self, self.limits)

    @property
    def actor_optimiser(self):
        decay: dict[str, Any] = {"schedule": "cosine", "steps": self.decay_updates} if self.decay_updates else {}
        return optimiser(self.learning_rate, clip=self.gradient_clip or None, **decay)

    def spec(self, data: Dataset) -> Spec:
        """Sizes, bounds and normalisers. Raises DataError where the data lacks what the method needs."""
        for need in self.needs:
            getattr(data, f"require_{need}")()
        spec = Spec.fit(data, **({"observations": Gaussian} if self.standardise else {}))
        return replace(spec, normalisers=spec.normalisers | {"actions": MinMax(spec.action_low, spec.action_high)})

    def prepare(self, data: Dataset):
        spec = self.spec(data)
        return transitions(data, spec), spec

    def reset(self, spec: Spec, n: int) -> tuple:
        return ()

    def act(self, state, spec: Spec, carry, observation, key):
        action = self.choose(state, spec, spec.normalise("observations", observation), key)
        return spec.denormalise("actions", jnp.clip(action, -1, 1)), carry

    def choose(self, state, spec: Spec, observation, key) -> jax.Array:
        """Actions `[n, action_dim]`, in network units, for observations `[n, observation_dim]` in theirs."""
        raise NotImplementedError


Rewards = Literal["raw", "standard", "returns", "minus-one", "antmaze"]
