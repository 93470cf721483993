"""Chunks as transitions: several actions in a row count as one, whose reward is theirs and whose successor is after the
last of them (Li, Zhou & Levine 2025, "Reinforcement Learning with Action Chunking")."""

from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset
from reverie.data.replay import Replay, in_a_row
from reverie.data.spec import Spec
from reverie.data.views import Rows, View
from reverie.data.windows import Windows, windows
from reverie.errors import DataError


class ChunkTransitions(View):
    """A batch has `observations` `[B, ...]`, `actions` `[B, length A]` in a row, `inside` of the actions' shape (1
    where the episode still goes on), `rewards` (discounted, of the whole chunk), `next_observations` (after its last
    action), `terminals` (1 where it ended the task), and `valid`, which is 0 where it reaches beyond the episode."""

    windows: Windows
    length: int = eqx.field(static=True)

    @property
    def rows(self) -> Rows:
        return self.windows.rows

    def __len__(self) -> int:
        return len(self.windows)

    def index(self, key: Array, batch_size: int) -> Array:
        return self.windows.index(key, batch_size)

    def take(self, index: Array | np.ndarray) -> Rows:
        batch = self.windows.take(index)
        actions, mask = batch["actions"], batch.pop("mask")
        flat = (*actions.shape[:-2], actions.shape[-2] * actions.shape[-1])
        inside = mask[..., None] + 0 * actions
        seen = jax.tree.map(lambda x: x[..., 0, :], batch["observations"])
        return batch | {"observations": seen, "actions": actions.reshape(flat), "inside": inside.reshape(flat)}


class ChunkReplay(View):
    """Batches as of `ChunkTransitions`, from a replay of environments' steps in their order, of which the rows have
    `timeouts` too (float32, 1 where an episode was cut)."""

    by_number: ClassVar[bool] = True

    replay: Replay
    length: int = eqx.field(static=True)
    discount: float = eqx.field(static=True)

    def joined(self, rows: Rows) -> "ChunkReplay":
        """As of `Transitions`."""
        return replace(self, replay=self.replay.joined(rows))

    def index(self, key: Array, batch_size: int) -> Array:
        return self.replay.index(key, batch_size)

    def take(self, index: Array | np.ndarray) -> Rows:
        rows, steps = self.replay.rows, jnp.arange(self.length)
        row, inside = in_a_row(self.replay, index, self.length)
        last = inside.sum(-1, keepdims=True).astype(jnp.int32) - 1
        end = jnp.take_along_axis(row, last, -1)[..., 0]
        actions = rows["actions"][jnp.take_along_axis(row, jnp.minimum(steps, last), -1)]
        flat = (*actions.shape[:-2], actions.shape[-2] * actions.shape[-1])
        return {
            "observations": jax.tree.map(lambda x: x[index], rows["observations"]),
            "actions": actions.reshape(flat),
            "inside": jnp.broadcast_to(inside[..., None], actions.shape).reshape(flat),
            "rewards": (self.discount**steps * inside * rows["rewards"][row]).sum(-1),
            "next_observations": jax.tree.map(lambda x: x[end], rows["next_observations"]),
            "terminals": rows["terminals"][end],
            "valid": inside.min(-1),
            "index": index,
        }


def chunk_transitions(data: Dataset, spec: Spec, length: int, discount: float) -> ChunkTransitions:
    """Chunks of `length` actions from every step, normalised by `spec`; beyond an episode's end its last action stands.

    A chunk is valid where it does not reach beyond its episode's end and the observation after it is known, or not
    needed as the task ended with it or before. Rewards after a terminal do not count, where the released code adds
    them; they come in data whose episodes go on after one, such as OGBench's. Raises DataError without rewards or
    terminals, and where no chunk is valid.
    """
    data.require_terminals()
    view = windows(data, spec, length, pad="edge", columns=("observations", "actions"), past=("observations",))
    rewards = np.asarray(spec.normalise("rewards", data.require_rewards()[:, None]), np.float64)[:, 0]
    steps, ends = np.arange(len(data)), np.repeat(data.episodes[:, 1], np.diff(data.episodes)[:, 0])
    total, alive = np.zeros(len(data)), np.ones(len(data), bool)
    for i in range(length):
        row = np.minimum(steps + i, ends - 1)
        counted = alive & (steps + i < ends)
        total += discount**i * rewards[row] * counted
        alive &= ~(counted & data.terminals[row])
    goes_on = steps + length < ends
    valid = (steps + length <= ends) & (goes_on | ~alive | (data.next_observations is not None))
    if not valid.any():
        longest = int(np.diff(data.episodes).max())
        raise DataError(f"No chunk of {length} actions fits an episode: the longest has {longest} steps; shorten it.")
    columns = {
        "rewards": jnp.asarray(total, jnp.float32),
        "next_observations": spec.normalise("observations", _after(data, np.minimum(steps + length, ends), goes_on)),
        "terminals": jnp.asarray(~alive, jnp.float32),
        "valid": jnp.asarray(valid, jnp.float32),
    }
    return ChunkTransitions(view.joined({}, columns), length)


def _after(data: Dataset, stop: np.ndarray, goes_on: np.ndarray) -> Any:
    """The observations of the rows `stop`, or, where the episode ends before, what is known after its last row."""
    beside = data.observations if data.next_observations is None else data.next_observations

    def each(observations, following):
        inside = goes_on.reshape(-1, *[1] * (observations.ndim - 1))
        return np.where(inside, observations[np.minimum(stop, len(data) - 1)], following[stop - 1])

    return jax.tree.map(each, data.observations, beside)
