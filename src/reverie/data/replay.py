"""What agents live through: grown on the device to draw batches from, and kept on the host as a data set."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset, concatenate
from reverie.data.spec import Spec
from reverie.data.views import Rows, View, joined, taken, transition_rows, written


class Replay(View):
    """Transitions of which the first `count` are there, drawn uniformly with replacement; the newest replace the
    oldest where there is no more room."""

    by_number: ClassVar[bool] = True

    rows: Rows
    """`[capacity, ...]` each, in network units."""
    count: Array
    """Rows written so far, those that were replaced as well."""
    envs: int = eqx.field(static=True, default=1)
    """Environments whose steps are written in turn. Where their order counts, there is room for as many of each."""

    def joined(self, rows: Rows) -> "Replay":
        """As of `Transitions`."""
        return replace(self, rows=joined(self.rows, rows))

    def written(self, index: Array, columns: Rows) -> "Replay":
        """As of `Transitions`; a place that was drawn may hold a newer row by then."""
        return replace(self, rows=written(self.rows, index, columns))

    def index(self, key: Array, batch_size: int) -> Array:
        return jax.random.randint(key, (batch_size,), 0, jnp.minimum(self.count, len(self.rows["actions"])))

    def take(self, index: Array | np.ndarray) -> Rows:
        return taken(self.rows, index)


class WindowReplay(View):
    """Several steps in a row, as of `windows(..., pad="edge")`, from a replay of environments' steps in their order, of
    which the rows have `timeouts` too (float32, 1 where an episode was cut)."""

    by_number: ClassVar[bool] = True

    replay: Replay
    length: int = eqx.field(static=True)

    def joined(self, rows: Rows) -> "WindowReplay":
        """As of `Transitions`."""
        return replace(self, replay=self.replay.joined(rows))

    def index(self, key: Array, batch_size: int) -> Array:
        return self.replay.index(key, batch_size)

    def take(self, index: Array | np.ndarray) -> Rows:
        row, inside = in_a_row(self.replay, index, self.length)
        last = inside.sum(-1, keepdims=True).astype(jnp.int32) - 1
        row = jnp.take_along_axis(row, jnp.minimum(jnp.arange(self.length), last), -1)
        kept = ("observations", "actions", "rewards", "terminals")
        batch = {name: jax.tree.map(lambda x: x[row], self.replay.rows[name]) for name in kept}
        return batch | {"mask": inside, "index": index}


def in_a_row(replay: Replay, index: Array | np.ndarray, length: int) -> tuple[Array, Array]:
    """Of an environment's steps in their order the places of so many from each `index` `[..., B]` on, `[..., B,
    length]`; and whether they are of its episode and there already (1 or 0, of this shape)."""
    rows, count = replay.rows, replay.count
    capacity, steps = len(rows["actions"]), replay.envs * jnp.arange(length)
    # Of a full replay the oldest row is the next to be replaced, and the newest has none after it.
    age = jnp.where(count > capacity, (index - count) % capacity, index)[..., None] + steps
    row = (jnp.asarray(index)[..., None] + steps) % capacity
    goes_on = 1 - jnp.maximum(rows["terminals"][row], rows["timeouts"][row])
    alive = jnp.cumprod(goes_on, -1)
    alive = jnp.concatenate([jnp.ones_like(alive[..., :1]), alive[..., :-1]], -1)
    return row, alive * (age < jnp.minimum(count, capacity))


def in_turn(steps: Mapping[str, np.ndarray], envs: int) -> dict[str, np.ndarray]:
    """Steps `[S, N, ...]`, one environment's after another's and as many of each, as the environments made them: a step
    of each in turn."""

    def turned(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), envs, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)

    return {name: turned(x) for name, x in steps.items()}


class Mixed(View):
    """A share of every batch from `second`, the rest from `first`, in this order; so are the batch's numbers."""

    first: Any
    """A `Replay`, or a view of one."""
    second: Any
    """Another, or a view of a data set."""
    share: float = eqx.field(static=True)

    @property
    def by_number(self) -> bool:  # type: ignore[override]
        return self.first.by_number

    def joined(self, rows: dict[str, Rows]) -> "Mixed":
        """With the further columns of each, by the names `first` and `second`."""
        second = self.second.joined(rows["second"]) if rows["second"] else self.second
        return Mixed(self.first.joined(rows["first"]), second, self.share)

    def written(self, index: Array, columns: Rows) -> "Mixed":
        """Writes to `first` alone, the rows of a whole batch that are its; what would change in `second` is dropped."""
        n = self._from_first(len(index))
        own = jax.tree.map(lambda column: column[:n], columns)
        return Mixed(self.first.written(index[:n], own), self.second, self.share)

    def index(self, key: Array, batch_size: int) -> Array:
        keys, n = jax.random.split(key), self._from_first(batch_size)
        return jnp.concatenate([self.first.index(keys[0], n), self.second.index(keys[1], batch_size - n)])

    def take(self, index: Array | np.ndarray) -> Rows:
        n = self._from_first(index.shape[-1])
        parts, axis = (self.first.take(index[..., :n]), self.second.take(index[..., n:])), index.ndim - 1
        return jax.tree.map(lambda *rows: jnp.concatenate(rows, axis), *parts)

    def _from_first(self, batch_size: int) -> int:
        return batch_size - round(self.share * batch_size)


def room(rows: Mapping[str, Any], capacity: int) -> Rows:
    """Zeros `[S, capacity, ...]` for rows that come as `[S, n, ...]`."""
    return jax.tree.map(lambda x: jnp.zeros((x.shape[0], capacity, *x.shape[2:]), x.dtype), dict(rows))


@partial(jax.jit, donate_argnames="kept")
def write(kept: Rows, count: Array, rows: Rows) -> Rows:
    """`kept` (donated) `[S, capacity, ...]` with the rows `[S, n, ...]` after the `count` written before: of more than
    there is room for the last `capacity`, each in the place it would have."""
    capacity, n = (x["actions"].shape[1] for x in (kept, rows))
    # No place is written twice in one scatter, whose order is not defined.
    over = max(0, n - capacity)
    index = (count + over + jnp.arange(n - over)) % capacity
    last = {name: jax.tree.map(lambda x: x[:, over:], rows[name]) for name in kept}
    return jax.tree.map(lambda old, new: old.at[:, index].set(new), kept, last)


@jax.jit
def in_network_units(arrays: Rows, spec: Spec) -> Rows:
    """The rows of the view `transitions`, for arrays `[..., d]` in the environment's units."""
    return transition_rows(arrays, spec)


class History:
    """All steps of one seed's environments, in the order in which they were made, on the host."""

    def __init__(self, low: np.ndarray, high: np.ndarray, before: Dataset | None = None, **attributes: Any):
        """`low` and `high` bound the actions; `before` is what an earlier session collected."""
        self.bounds: dict[str, Any] = {"action_low": low, "action_high": high}
        self.attributes, self.before = attributes, before
        self.parts: list[dict[str, Any]] = []
        self.returns: list[float] = []
        """Of the episodes that have ended, in the order of their ends."""

    def append(self, steps: dict[str, Any]) -> None:
        """Further steps of all environments: `[T, E, ...]` each (observations may be several), with `timeouts`. Their
        `costs` are left out where those before were collected without."""
        known = self.before is None or self.before.costs is not None
        self.parts.append({name: x for name, x in steps.items() if known or name != "costs"})

    def __len__(self) -> int:
        return len(self.before or ()) + sum(part["rewards"].size for part in self.parts)

    def dataset(self) -> Dataset:
        """Whole episodes, one environment's after another's. Where an episode is not over it is cut."""
        if not self.parts:
            assert self.before is not None
            return self.before
        steps = jax.tree.map(lambda *parts: np.concatenate(parts), *self.parts)
        steps["timeouts"] = steps["timeouts"].copy()
        steps["timeouts"][-1] |= ~steps["terminals"][-1]
        flat = jax.tree.map(lambda x: np.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), steps)
        made = Dataset.from_arrays(**flat, **self.bounds, attributes=self.attributes)
        return made if self.before is None else replace(concatenate(self.before, made), attributes=made.attributes)
