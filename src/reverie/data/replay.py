"""What agents live through: grown on the device to draw batches from, and kept on the host as a data set."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset, concatenate
from reverie.data.spec import Spec
from reverie.data.views import transition_rows


class Replay(eqx.Module):
    """Transitions of which the first `count` are there, drawn uniformly with replacement; the newest replace the
    oldest where there is no more room."""

    rows: dict[str, Array]
    """`[capacity, ...]` each, in network units."""
    count: Array
    """Rows written so far, those that were replaced as well."""

    def joined(self, rows: dict[str, Array]) -> "Replay":
        return Replay(self.rows | rows, self.count)

    def draw(self, key: Array, batch_size: int) -> dict[str, Array]:
        """As of `Transitions`."""
        capacity = len(self.rows["actions"])
        index = jax.random.randint(key, (batch_size,), 0, jnp.minimum(self.count, capacity))
        return {name: rows[index] for name, rows in self.rows.items()}


class Mixed(eqx.Module):
    """A share of every batch from `second`, the rest from `first`, in this order."""

    first: Replay
    second: Replay
    share: float = eqx.field(static=True)

    def joined(self, rows: dict[str, dict[str, Array]]) -> "Mixed":
        return Mixed(self.first.joined(rows["first"]), self.second.joined(rows["second"]), self.share)

    def draw(self, key: Array, batch_size: int) -> dict[str, Array]:
        keys, n = jax.random.split(key), round(self.share * batch_size)
        parts = self.first.draw(keys[0], batch_size - n), self.second.draw(keys[1], n)
        return jax.tree.map(lambda *rows: jnp.concatenate(rows), *parts)


def room(rows: Mapping[str, Array], capacity: int) -> dict[str, Array]:
    """Zeros `[S, capacity, ...]` for rows that come as `[S, n, ...]`."""
    return {name: jnp.zeros((x.shape[0], capacity, *x.shape[2:]), x.dtype) for name, x in rows.items()}


@partial(jax.jit, donate_argnames="kept")
def write(kept: dict[str, Array], count: Array, rows: dict[str, Array]) -> dict[str, Array]:
    """`kept` (donated) `[S, capacity, ...]` with the rows `[S, n, ...]` after the `count` written before."""
    capacity, n = (x["actions"].shape[1] for x in (kept, rows))
    index = (count + jnp.arange(n)) % capacity
    return {name: kept[name].at[:, index].set(rows[name]) for name in kept}


@jax.jit
def in_network_units(arrays: dict[str, Array], spec: Spec) -> dict[str, Array]:
    """The rows of the view `transitions`, for arrays `[..., d]` in the environment's units."""
    return transition_rows(arrays, spec)


class History:
    """All steps of one seed's environments, in the order in which they were made, on the host."""

    def __init__(self, low: np.ndarray, high: np.ndarray, before: Dataset | None = None, **attributes: Any):
        """`low` and `high` bound the actions; `before` is what an earlier session gathered."""
        self.bounds: dict[str, Any] = {"action_low": low, "action_high": high}
        self.attributes, self.before = attributes, before
        self.parts: list[dict[str, np.ndarray]] = []
        self.returns: list[float] = []
        """Of the episodes that have ended, in the order of their ends."""

    def append(self, steps: dict[str, np.ndarray]) -> None:
        """Further steps of all environments: `[T, E, ...]` each, with `timeouts`."""
        self.parts.append(steps)

    def __len__(self) -> int:
        return len(self.before or ()) + sum(part["rewards"].size for part in self.parts)

    def dataset(self) -> Dataset:
        """Whole episodes, one environment's after another's. Where an episode is not over it is cut."""
        if not self.parts:
            assert self.before is not None
            return self.before
        names = self.parts[0]
        steps = {name: np.concatenate([part[name] for part in self.parts]) for name in names}
        steps["timeouts"] = steps["timeouts"].copy()
        steps["timeouts"][-1] |= ~steps["terminals"][-1]
        flat: dict[str, Any] = {name: np.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]) for name, x in steps.items()}
        made = Dataset.from_arrays(**flat, **self.bounds, attributes=self.attributes)
        return made if self.before is None else replace(concatenate(self.before, made), attributes=made.attributes)
