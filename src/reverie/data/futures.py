"""Futures: steps, and the states of the same episode some steps later, as often as a discount has them.

An offset k is drawn with probability (1 - discount) discount^(k - 1), k = 1, 2, ..., up to the `longest`. Where the
task has ended by then there is no state any more, and a pair says so. Where the recording was cut before, nothing is
known, and no pair is drawn: so that ends, which are known for ever, do not seem more frequent than they are, pairs are
weighted by how seldom their like is recorded (inverse probability of censoring; Robins & Rotnitzky 1992).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset
from reverie.data.spec import Spec
from reverie.data.views import Rows, View, taken
from reverie.errors import DataError

REMAINDER = 1e-3
"""Of the discount, beyond which the future is left out."""
SELDOM = 0.05
"""Share of the steps that are recorded for so long, below which the future is left out."""


class Futures(View):
    """Every row of the data, and one later row of its episode.

    A batch has the columns of `rows` at the step, `[B, ...]`, `futures` (the observations later), `offsets` (int32, how
    many steps later), `alive` (float32; 0 where the task has ended by then: `futures` are then none), `weights`
    (float32) and `index` (int32 `[B, 2]`, row and offset). Averages with these weights are those of episodes that are
    never cut, if cuts, as by a limit of time, have nothing to do with what follows.
    """

    rows: Rows
    """`[N, ...]` each, in network units."""
    last: Array
    """The row with which a step's future ends, by a terminal or a cut: int32 `[N]`."""
    reach: Array
    """The largest offset of which a step's future is known, no more than `longest`; 0 for none: int32 `[N]`."""
    share: Array
    """Of all offsets' probability that of those which are known, `[N]`."""
    recorded: Array
    """The probability that the recording is not cut within 0, 1, ..., `longest` steps: `[longest + 1]`."""
    discount: float = eqx.field(static=True)
    longest: int = eqx.field(static=True)
    """The largest offset of all."""

    def __len__(self) -> int:
        return len(self.last)

    def index(self, key: Array, batch_size: int) -> Array:
        row_key, offset_key = jax.random.split(key)
        row = jax.random.randint(row_key, (batch_size,), 0, len(self))
        reach = jnp.asarray(self.reach)[row]
        offset = geometric_offsets(self.discount, reach, jax.random.uniform(offset_key, (batch_size,)))
        return jnp.stack([row, offset], -1)

    def take(self, index: Array | np.ndarray) -> Rows:
        xp: Any = np if isinstance(self.last, np.ndarray) else jnp
        index = xp.asarray(index)
        row, offset = index[..., 0], index[..., 1]
        later, last = row + offset, self.last[row]
        batch = taken(self.rows, row)
        return batch | {
            "futures": self.rows["observations"][xp.minimum(later, last)],
            "offsets": offset,
            "alive": (later <= last).astype(xp.float32),
            "weights": self.share[row] / self.recorded[xp.minimum(offset, last - row)],
            "index": index,
        }


def geometric_offsets(discount: float, longest: Any, uniform: Array) -> Array:
    """Offsets k of 1 ... `longest` with probabilities in proportion to discount^(k - 1), by numbers `[...]` that are
    uniform on [0, 1): int32 `[...]`; 1 where `longest` is 0."""
    within = 1 - discount ** jnp.asarray(longest, jnp.float32)
    offset = 1 + jnp.floor(jnp.log1p(-uniform * within) / jnp.log(discount))
    return jnp.clip(offset.astype(jnp.int32), 1, jnp.maximum(longest, 1))


def longest_offset(data: Dataset, discount: float) -> int:
    """The offset beyond which a thousandth of the discount is left, or the largest of which the data know enough,
    whichever is less. Raises DataError where no step has a future."""
    bound, known = int(np.ceil(np.log(REMAINDER) / np.log(discount))), recorded(data)
    enough = int(np.flatnonzero(known >= SELDOM)[-1])
    if enough < 1:
        raise DataError("Every episode is one step cut by a timeout, so no step has a future; give whole episodes.")
    ended = enough == len(known) - 1  # so do those that are never cut, and of what has ended all is known
    return bound if ended else min(bound, enough)


def recorded(data: Dataset) -> np.ndarray:
    """The probability that the recording of a step's future is not cut within 0, 1, ... steps, if it did not end: by
    Kaplan & Meier's estimate of all steps, float64 `[longest episode + 1]`. After the last end or cut it stays."""
    last, ended = _ends(data)
    left = last - np.arange(len(data))
    cut, longer = np.bincount(left[~ended], minlength=left.max() + 1), len(data) - np.cumsum(np.bincount(left))
    stays = 1 - cut / np.maximum(longer + cut, 1)
    return np.append(1.0, np.cumprod(stays))


def futures(data: Dataset, spec: Spec, discount: float, longest: int) -> Futures:
    """All steps' `observations`, `actions` and, where the data have them, `rewards`, with their futures.

    A terminal ends the future of the steps before it, whether the episode goes on or not: after it every state is none.
    A timeout cuts it. Rows without any known future are drawn too, with weight 0.
    """
    last, ended = _ends(data)
    reach = np.where(ended, longest, np.minimum(last - np.arange(len(data)), longest))
    known = recorded(data)
    known = np.append(known, np.full(longest, known[-1]))[: longest + 1]
    share = (1 - discount**reach) / (1 - discount**longest)
    rows = {name: spec.normalise(name, getattr(data, name)) for name in ("observations", "actions")}
    if data.rewards is not None:
        rows["rewards"] = spec.normalise("rewards", data.rewards[:, None])[:, 0]
    return Futures(
        rows=rows,
        last=jnp.asarray(last, jnp.int32),
        reach=jnp.asarray(reach, jnp.int32),
        share=jnp.asarray(share, jnp.float32),
        recorded=jnp.asarray(known, jnp.float32),
        discount=discount,
        longest=longest,
    )


def _ends(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Of every step, the row with which its future ends: its own or the next terminal's, else the episode's last; and
    whether that is a terminal. int64 and bool `[N]`."""
    stops = np.where(data.last | data.terminals, np.arange(len(data)), len(data))
    last = np.minimum.accumulate(stops[::-1])[::-1]
    return last, data.terminals[last]
