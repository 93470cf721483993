"""Views: the data on the device in the shape that a method trains on, and how a batch is drawn from it.

A view is a pytree of arrays. Pass it to a jitted function as an argument; then nothing is copied into the program
and a batch is gathered where the data lies. `reverie.data.host` keeps one in the host's memory instead.
"""

from abc import abstractmethod
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset
from reverie.data.spec import Spec
from reverie.errors import DataError

Rows = dict[str, Any]
"""Columns by name: an array of one row a step, or a pytree of such arrays (observations of several parts)."""


class View(eqx.Module):
    """What batches are drawn from."""

    by_number: ClassVar[bool] = False
    """Whether columns that are joined are read by the numbers of rows alone, and so may be `OfSeed`."""

    @abstractmethod
    def index(self, key: Array, batch_size: int) -> Array:
        """What a batch is to be made of, drawn uniformly with replacement: int32 `[batch_size]`."""

    @abstractmethod
    def take(self, index: Array | np.ndarray) -> Rows:
        """The batch of these numbers, int32 `[..., B]`: every array `[..., B, ...]`. Where the view's arrays are
        numpy's so are the batch's."""

    def draw(self, key: Array, batch_size: int) -> Rows:
        """A random batch; every array `[batch_size, ...]`. `index`, int32 `[batch_size]`, numbers what was drawn."""
        return self.take(self.index(key, batch_size))

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))


class OfSeed:
    """One seed's column of that of all, `[S, M, ...]`, of which only rows that are asked for are read: in a loop over
    seeds an array of its own would be a copy of it. For jax.tree a leaf."""

    def __init__(self, whole: Array, seed: Array):
        self.whole, self.seed = whole, seed

    def __len__(self) -> int:
        return self.whole.shape[1]

    def __getitem__(self, index: Array) -> Array:
        return self.whole[self.seed, index]


class Transitions(View):
    """Single steps: `observations, actions, next_observations, terminals` (float32, 1 where the task ends) and, where
    the data have them, `rewards` and `costs`."""

    rows: Rows
    """`[M, ...]` each, in network units."""

    def __len__(self) -> int:
        return len(self.rows["actions"])

    def joined(self, rows: Rows) -> "Transitions":
        """With further columns `[M, ...]`, drawn with the others. Raises DataError where the lengths differ."""
        return Transitions(joined(self.rows, rows))

    def written(self, index: Array, columns: Rows) -> "Transitions":
        """With `columns` `[B, ...]`, some of the view's, in the rows that a batch's `index` `[B]` numbers."""
        return Transitions(written(self.rows, index, columns))

    def index(self, key: Array, batch_size: int) -> Array:
        return jax.random.randint(key, (batch_size,), 0, len(self))

    def take(self, index: Array | np.ndarray) -> Rows:
        return taken(self.rows, index)


def taken(rows: Rows, index: Array | np.ndarray) -> Rows:
    """The rows with these numbers, and `index` itself; numpy arrays for numpy's."""
    if isinstance(next(iter(jax.tree.leaves(rows)), None), np.ndarray):
        index = np.asarray(index)
    return jax.tree.map(lambda x: x[index], rows) | {"index": index}


def joined(rows: Rows, more: Rows) -> Rows:
    """Both together, `more`'s where both have a name. Raises DataError unless all have equally many rows."""
    together = rows | more
    lengths = {name: {len(x) for x in jax.tree.leaves(column)} for name, column in together.items()}
    if len(set().union(*lengths.values())) > 1:
        known = "; ".join(f"{name!r} {', '.join(map(str, sorted(sizes)))}" for name, sizes in lengths.items())
        raise DataError(f"Columns of one view need one row each for the same steps; the rows here are: {known}.")
    return together


def written(rows: Rows, index: Array, columns: Rows) -> Rows:
    """The rows with `columns` `[B, ...]` at `index` `[B]`; of a row that was drawn twice either may stay. On the device
    only. Raises DataError for a column that is not there."""
    if unknown := set(columns) - set(rows):
        raise DataError(f"The view has no {min(unknown)!r} to write; it has {', '.join(sorted(rows))}.")
    return rows | {
        name: jax.tree.map(lambda old, new: old.at[index].set(new), rows[name], column)
        for name, column in columns.items()
    }


def transitions(data: Dataset, spec: Spec) -> Transitions:
    """All steps whose successor is known (see `Dataset.with_next_observations`), normalised by `spec`.

    Next observations are normalised as observations, unless `spec` has a normaliser for `"next_observations"`. Raises
    DataError where no step is left.
    """
    data = data.with_next_observations()
    names = ("observations", "actions", "next_observations", "terminals", "rewards", "costs")
    arrays = {name: getattr(data, name, None) for name in names}
    return Transitions(transition_rows({name: x for name, x in arrays.items() if x is not None}, spec))


def transition_rows(arrays: Mapping[str, Any], spec: Spec) -> Rows:
    """The arrays `[..., d]` of a data set (with `next_observations`) as rows in network units."""
    successor = "next_observations" if "next_observations" in spec.normalisers else "observations"
    rows = {
        "observations": spec.normalise("observations", arrays["observations"]),
        "actions": spec.normalise("actions", arrays["actions"]),
        "next_observations": spec.normalise(successor, arrays["next_observations"]),
        "terminals": jnp.asarray(arrays["terminals"], jnp.float32),
    }
    return rows | {
        name: spec.normalise(name, arrays[name][..., None])[..., 0] for name in ("rewards", "costs") if name in arrays
    }


def sarsa(data: Dataset, spec: Spec) -> Transitions:
    """The steps whose next action is known too, with `next_actions` (a terminal's are its own, and never used): for
    the values of the behaviour itself. Raises DataError where no step is left."""
    last = data.last
    kept = np.flatnonzero(~last | data.terminals)
    if kept.size == 0:
        raise DataError("Every episode is one step cut by a timeout, so no step has a next action.")
    rewards, after = data.require_rewards(), np.where(last, np.arange(len(data)), np.arange(len(data)) + 1)[kept]
    known = data.next_observations
    here, there = (jax.tree.map(lambda x, rows=rows: x[rows], data.observations) for rows in (kept, after))
    rows = {
        "observations": spec.normalise("observations", here),
        "actions": spec.normalise("actions", data.actions[kept]),
        "rewards": spec.normalise("rewards", rewards[kept, None])[:, 0],
        "next_observations": spec.normalise(
            "observations", there if known is None else jax.tree.map(lambda x: x[kept], known)
        ),
        "next_actions": spec.normalise("actions", data.actions[after]),
        "terminals": jnp.asarray(data.terminals[kept], jnp.float32),
    }
    return Transitions(rows)


def pairs(data: Dataset, spec: Spec) -> Transitions:
    """All steps' `observations` and `actions` alone, normalised by `spec`: for imitation, which needs no successor."""
    rows = {"observations": data.observations, "actions": data.actions}
    return Transitions({name: spec.normalise(name, values) for name, values in rows.items()})


def rewards_to_go(data: Dataset, discount: float = 1.0, termination_penalty: float = 0.0) -> np.ndarray:
    """From every row to the end of its episode, discounted: float64 `[N]`. `termination_penalty` is added to the last
    reward of an episode that ends by a terminal. Raises DataError without rewards."""
    return _to_go(data, data.require_rewards(), discount, termination_penalty)


def costs_to_go(data: Dataset, discount: float = 1.0, termination_cost: float = 0.0) -> np.ndarray:
    """As `rewards_to_go`, of the costs. Raises DataError without costs."""
    return _to_go(data, data.require_costs(), discount, termination_cost)


def _to_go(data: Dataset, values: np.ndarray, discount: float, at_terminal: float) -> np.ndarray:
    """The discounted sum of a number a step `[N]`."""
    gained = values.astype(np.float64) + at_terminal * (data.terminals & data.last)
    to_go = np.empty_like(gained)
    for start, stop in data.episodes:
        backwards = reversed(gained[start:stop].tolist())
        to_go[start:stop] = list(accumulate(backwards, lambda later, value: value + discount * later))[::-1]
    return to_go
