"""Receding-horizon acting: plans that are kept, made anew or started from the plan before, for each environment."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from reverie.learning import where_due


class Plan(NamedTuple):
    """What a planner remembers from one step to the next."""

    rows: jax.Array
    """The plans `[n, H, D]`, in network units."""
    step: jax.Array
    """Environment steps since each plan's window began: int32 `[n]`; 0 where there is no plan yet."""

    @classmethod
    def none(cls, n: int, horizon: int, size: int) -> "Plan":
        return cls(jnp.zeros((n, horizon, size)), jnp.zeros(n, jnp.int32))

    def shifted(self) -> "Plan":
        """One row on: the window begins at the next step, its last row twice."""
        return Plan(jnp.concatenate([self.rows[..., 1:, :], self.rows[..., -1:, :]], -2), self.step + 1)


def replan(rows, anew: tuple[jax.Array, Callable], warm: tuple[jax.Array, Callable] | None = None) -> jax.Array:
    """The plans `[n, H, D]`, made anew or from themselves where it is time.

    anew, warm: where it is time `[n]`, and the plans that are then made from `rows`, `[n, H, D]`. They are made for all
    environments if for any, and not at all if for none.
    """
    planned = rows
    for due, make in (anew, warm) if warm else (anew,):
        fresh = where_due(due.any(), make, rows)
        planned = jnp.where(due[:, None, None], fresh, planned)
    return planned
