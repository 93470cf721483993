"""What an episode may cost, a budget: asked for as a wish, spent step by step, and put in a discounted value's unit."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, MinMax, Spec
from reverie.errors import ReverieError
from reverie.wishes import Wish, Wishes

BUDGET = "budget"
"""The wish's name."""
COSTS = "episode_costs"
"""The normaliser's that has the range of the episodes' costs: as they are, and discounted from the episode's start."""


class Ledger(NamedTuple):
    """Every environment's budget, and what its episode has spent of it."""

    budget: jax.Array
    """Of the whole episode, `[n]`, in the environment's costs."""
    spent: jax.Array
    """`[n]`"""
    step: jax.Array
    """Steps of the episode so far: int32 `[n]`."""

    @classmethod
    def opened(cls, wishes: Wishes, n: int) -> "Ledger":
        """Before the first step. Raises ReverieError for a budget below 0."""
        return cls(asked_budget(wishes), jnp.zeros(n), jnp.zeros(n, jnp.int32))

    def asked(self, wishes: Wishes) -> "Ledger":
        """With another budget of the whole episode: what was spent already counts."""
        return self._replace(budget=asked_budget(wishes))

    def paid(self, cost, discount: float = 1.0) -> "Ledger":
        """With the `cost` `[n]` of the last step, discounted from the episode's start; the first has none before it."""
        spent = jnp.where(self.step > 0, discount ** (self.step - 1.0) * cost, 0.0)
        return self._replace(spent=self.spent + spent)

    def stepped(self) -> "Ledger":
        return self._replace(step=self.step + 1)

    @property
    def left(self) -> jax.Array:
        """`[n]`, below 0 where too much was spent."""
        return self.budget - self.spent


def evenly(discount: float, steps) -> jax.Array:
    """What of 1 that is spent evenly over so many steps counts when discounted: (1 - d^n) / (n (1 - d))."""
    steps = jnp.maximum(jnp.asarray(steps, jnp.float32), 1.0)
    return jnp.ones_like(steps) if discount == 1 else (1 - discount**steps) / (steps * (1 - discount))


def longest_episode(data: Dataset) -> jax.Array:
    """Its steps, `[1]`: for how long a budget has to last."""
    return jnp.asarray([int(np.diff(data.episodes).max())])


def with_episode_costs(spec: Spec, costs: np.ndarray, discounted: np.ndarray) -> Spec:
    """With the range of what the data's episodes cost, `[E]` as they are and discounted from the episode's start, from
    which the wish is declared."""
    return replace(spec, normalisers=spec.normalisers | {COSTS: MinMax.fit(np.stack([costs, discounted], 1))})


def budget_wish(spec: Spec, discounted: bool = False) -> dict[str, Wish]:
    """Where nothing is asked for the strictest holds that the data knows: what their cheapest episode cost."""
    seen: Any = spec.normalisers[COSTS]
    low, high = (float(np.asarray(each)[int(discounted)]) for each in (seen.low, seen.high))
    unit = "discounted cost" if discounted else "cost"
    return {BUDGET: Wish("what the episode may cost", unit, default=low, low=low, high=high)}


def asked_budget(wishes: Wishes) -> jax.Array:
    """The budgets `[n]`; raises ReverieError for one below 0."""
    budget = np.asarray(wishes[BUDGET], np.float32)
    if (budget < 0).any():
        raise ReverieError(f"{BUDGET} = {budget[budget < 0][0]:g} is less than nothing; give 0 or more.")
    return jnp.asarray(budget)
