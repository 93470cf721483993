"""The frame of every policy of one step: which transitions it learns from, and how it acts."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp

from reverie.configs import Adam
from reverie.data import Dataset, Gaussian, MinMax, Spec, transitions
from reverie.errors import RunError
from reverie.protocols import Actor, Feedback
from reverie.wishes import Wishes


@dataclass(frozen=True)
class StepPolicy(Adam, Actor):
    """A policy without memory that is learned from transitions.

    Networks see actions in [-1, 1], whatever their bounds are, and observations as they come or standardised. An
    algorithm adds `init`, `update` and `choose`.
    """

    role: ClassVar[str] = "policy"
    view: ClassVar[Any] = staticmethod(transitions)
    """(data, spec) -> what batches are drawn from: `data.transitions`, `pairs` or `sarsa`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Those without which the data is refused, "rewards", "terminals" and "costs" here."""

    standardise: bool = False
    """Whether the networks see observations of mean 0 and standard deviation 1."""

    def spec(self, data: Dataset) -> Spec:
        """Sizes, bounds and normalisers. Raises DataError where the data lacks what the method needs."""
        self.check_needs(data)
        spec = Spec.fit(data, **({"observations": Gaussian} if self.standardise else {}))
        return replace(spec, normalisers=spec.normalisers | {"actions": MinMax(spec.action_low, spec.action_high)})

    def check_needs(self, data: Dataset) -> None:
        """Raise DataError where the data lacks what the method needs."""
        for need in ("rewards", "terminals", "costs"):
            if need in self.needs:
                getattr(data, f"require_{need}")()

    def prepare(self, data: Dataset, spec: Spec | None = None):
        self.check_needs(data)
        spec = spec or self.spec(data)
        return self.view(data, spec), spec

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> tuple:
        return ()

    def act(self, state, spec: Spec, observation, carry, feedback: Feedback, key):
        action = self.choose(state, spec, spec.normalise("observations", observation), key)
        return spec.denormalise("actions", jnp.clip(action, -1, 1)), carry

    def choose(self, state, spec: Spec, observation, key) -> jax.Array:
        """Actions `[n, action_dim]`, in network units, for observations `[n, ...]` in theirs."""
        raise NotImplementedError


@runtime_checkable
class Clone(Protocol):
    """A policy whose network others may begin from."""

    def behaviour_network(self, state: Any) -> Any:
        """What the network that acts is, or of a policy that chooses among a behaviour's actions, the behaviour's."""


def behaviour_of(algorithm: Any, kind: type, other: Any, state: Any) -> Any:
    """The network from which the algorithm, a `Tuner`, begins: that of a seed's `state` of the run `other`, which is to
    be of the kind. Raises RunError where it is not."""
    theirs = other.algorithm
    if not (isinstance(theirs, kind) and isinstance(theirs, Clone)):
        raise RunError(f"{algorithm.name} begins from {algorithm.begins_from}, and this one is of {theirs.name}.")
    return theirs.behaviour_network(state)


class SamplingExplorer:
    """A policy that draws its actions, and may go on learning online."""

    @property
    def exploring(self) -> Self:
        """How it acts while it collects data: as ever, by samples."""
        return self
