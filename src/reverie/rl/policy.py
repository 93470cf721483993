"""The frame of every policy of one step: which transitions it learns from, and how it acts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import Adam
from reverie.data import Dataset, Gaussian, MinMax, Spec, transitions
from reverie.errors import DataError
from reverie.protocols import Actor, Feedback
from reverie.wishes import Wishes


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


@dataclass(frozen=True)
class StepPolicy(Adam, Actor):
    """A policy without memory that is learned from transitions.

    Networks see actions in [-1, 1], whatever their bounds are, and observations as they come or standardised. An
    algorithm adds `init`, `update` and `choose`.
    """

    role: ClassVar[str] = "policy"
    needs: ClassVar[tuple[str, ...]] = ()
    """Of "rewards" and "terminals", those without which the data is refused."""

    standardise: bool = False
    """Whether the networks see observations of mean 0 and standard deviation 1."""

    def spec(self, data: Dataset) -> Spec:
        """Sizes, bounds and normalisers. Raises DataError where the data lacks what the method needs."""
        for need in self.needs:
            getattr(data, f"require_{need}")()
        spec = Spec.fit(data, **({"observations": Gaussian} if self.standardise else {}))
        return replace(spec, normalisers=spec.normalisers | {"actions": MinMax(spec.action_low, spec.action_high)})

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or self.spec(data)
        return transitions(data, spec), spec

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple:
        return ()

    def act(self, state, spec: Spec, observation, carry, feedback: Feedback, key):
        action = self.choose(state, spec, spec.normalise("observations", observation), key)
        return spec.denormalise("actions", jnp.clip(action, -1, 1)), carry

    def choose(self, state, spec: Spec, observation, key) -> jax.Array:
        """Actions `[n, action_dim]`, in network units, for observations `[n, ...]` in theirs."""
        raise NotImplementedError
