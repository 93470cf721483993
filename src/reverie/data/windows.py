"""Windows: several steps of one episode, with what came before to the left and what comes after to the right.

Rows are stored once and normalised once: memory is O(N), whatever the horizon and the history.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset
from reverie.data.spec import Spec
from reverie.data.views import Rows, View, costs_to_go, joined, rewards_to_go
from reverie.errors import DataError

Padding = Literal["zeros", "edge"]
"""What stands beyond an episode's end: zeros before normalisation, or its last (to the left: first) row again."""
PER_WINDOW = ("returns", "task")
"""Columns of one number a window. All others have one for each of its rows."""


class Windows(View):
    """`history` + `horizon` rows of one episode, `stride` steps apart, every possible current step equally likely.

    Row `history` of a window is the current step; the rows before it are the past. With H = `history` + `horizon` a
    batch has every column of `rows` as `[B, H, ...]` (those in `past` without the future), every one of `per_window` as
    `[B, ...]`, `mask` float32 `[B, H]` (1 inside the episode) and `index` int32 `[B]` (the windows' numbers).
    """

    rows: Rows
    """`[N, ...]` each, one row for every step of the data, in network units."""
    per_window: Rows
    """`[M, ...]` each, one row for every window, in network units."""
    padding: Rows
    """For every column of `rows` what stands beyond an episode's ends where these are padded with zeros: `[...]`."""
    starts: Array
    """The windows' current steps: int32 `[M]`."""
    episode: Array
    """The numbers of the windows' episodes: int32 `[M]`."""
    episodes: Array
    """Every episode's first row and the row after its last: int32 `[E, 2]`."""
    horizon: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    history: int = eqx.field(static=True)
    pad_left: Padding = eqx.field(static=True)
    pad_right: Padding = eqx.field(static=True)
    past: tuple[str, ...] = eqx.field(static=True)
    """Columns of which a batch has the rows up to the current one alone, `[B, history + 1, ...]`."""

    def __len__(self) -> int:
        return len(self.starts)

    def joined(self, rows: Rows, per_window: Rows | None = None) -> "Windows":
        """With further columns: `rows` `[N, ...]` for every step of the data, padded with zeros where the others are,
        and `per_window` `[M, ...]`. Raises DataError where the lengths differ."""
        zeros = jax.tree.map(lambda x: _library(x).zeros(x.shape[1:], x.dtype), rows)
        return replace(
            self,
            rows=joined(self.rows, rows),
            per_window=joined(self.per_window, per_window or {}),
            padding=self.padding | zeros,
        )

    def with_rows(self, rows: Rows, padding: Rows) -> "Windows":
        """With these columns in the place of `rows` and `padding`."""
        return replace(self, rows=rows, padding=padding)

    def index(self, key: Array, batch_size: int) -> Array:
        return jax.random.randint(key, (batch_size,), 0, len(self))

    def take(self, index: Array | np.ndarray) -> Rows:
        xp = _library(self.starts)
        index = xp.asarray(index)
        steps = self.starts[index][..., None] + self.stride * xp.arange(-self.history, self.horizon, dtype=xp.int32)
        span = self.episodes[self.episode[index]]
        begin, end = span[..., :1], span[..., 1:]
        before, after = steps < begin, steps >= end
        zeros = (before & (self.pad_left == "zeros")) | (after & (self.pad_right == "zeros"))
        nearest = xp.clip(steps, begin, end - 1)

        def gather(column: Any, padding: Any, rows: int) -> Any:
            there, blank = column[nearest[..., :rows]], zeros[..., :rows]
            return xp.where(blank.reshape(*blank.shape, *[1] * (there.ndim - blank.ndim)), padding, there)

        batch = {
            name: jax.tree.map(
                partial(gather, rows=self.history + (1 if name in self.past else self.horizon)),
                *(column, self.padding[name]),
            )
            for name, column in self.rows.items()
        }
        batch |= jax.tree.map(lambda column: column[index], self.per_window)
        return batch | {"mask": (~(before | after)).astype(xp.float32), "index": index}


def windows(
    data: Dataset,
    spec: Spec,
    horizon: int,
    stride: int = 1,
    pad: bool | Padding = False,
    discount: float = 1.0,
    termination_penalty: float = 0.0,
    *,
    history: int = 0,
    pad_left: Padding = "edge",
    pad_timeouts: bool = True,
    columns: Sequence[str] | None = None,
    past: Sequence[str] = (),
) -> Windows:
    """Windows of `horizon` steps from the current one, `stride` steps apart, that never cross an episode's end.

    Without `pad` the `horizon` lies wholly inside its episode, and shorter episodes are left out. With `pad` every step
    starts a window, and steps beyond the end are `"zeros"` (or True: zeros before normalisation, as in Diffuser, Janner
    et al. 2022) or `"edge"` (the last step again, as in Diffusion Policy, Chi et al. 2023); without `pad_timeouts` so
    in episodes that end by a terminal alone, while in those that are cut, where nothing is known of what comes after,
    it is as without `pad`. `history` puts so many rows before the current one; at an episode's start, where there are
    none, stands the first again (`pad_left="edge"`, as in Diffusion Policy) or zeros. The mask is 0 in all padding.

    `columns` are what a batch has beside `mask` and `index`; `observations`, `actions` and, where the data have
    rewards, `returns` where it is None. There are, in network units where `spec` has a normaliser of that name,

    - for every row of a window: `observations`, `actions`, `rewards`, `costs`, `terminals` (float32, 1 where the task
      ends), `timesteps` (int32, the row's step within its episode), `returns_to_go` and `costs_to_go` (from that row),
      and the data's infos by their names;
    - for a window: `returns` (from the current step) and the info `task` (int32, at the current step).

    Of those in `past` a batch has the rows up to the current one alone: what is known when an action is chosen.

    `returns` and `returns_to_go` are the sum of `discount**k * rewards[t + k]` from a step t to the end of the episode
    (not of the window), in float64 on the host, and `costs_to_go` that of the costs; `termination_penalty` is added to
    the last reward of an episode that ends by a terminal, never of one cut by a timeout. Diffuser uses -100.

    Raises DataError where no episode is long enough, naming the longest, and for a column that the data do not have.
    """
    _check(horizon, stride, history, pad, pad_left)
    lengths, whole = np.diff(data.episodes)[:, 0], (horizon - 1) * stride + 1
    padded = bool(pad) & (pad_timeouts | np.asarray(data.terminals)[data.episodes[:, 1] - 1])
    counts = np.maximum(lengths - np.where(padded, 1, whole) + 1, 0)
    if not counts.any():
        raise DataError(
            f"No episode holds a window of horizon {horizon} with stride {stride} ({whole} steps): the longest has "
            f"{lengths.max()}{', and is cut' if pad else ''}; shorten the horizon{'' if pad else ' or pad'}."
        )
    episode, offset = _counted(counts)
    starts = data.episodes[episode, 0] + offset
    if columns is None:
        columns = ("observations", "actions", *(() if data.rewards is None else ("returns",)))
    raw = {name: _column(data, name, discount, termination_penalty) for name in columns}
    rows = {name: column for name, column in raw.items() if name not in PER_WINDOW}
    zeros = jax.tree.map(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), rows)
    return Windows(
        rows={name: _normalised(spec, name, x) for name, x in rows.items()},
        per_window={name: _normalised(spec, name, raw[name][starts]) for name in PER_WINDOW if name in raw},
        padding={name: jax.tree.map(lambda x: x[0], _normalised(spec, name, x)) for name, x in zeros.items()},
        starts=jnp.asarray(starts, jnp.int32),
        episode=jnp.asarray(episode, jnp.int32),
        episodes=jnp.asarray(data.episodes, jnp.int32),
        horizon=horizon,
        stride=stride,
        history=history,
        pad_left=pad_left,
        pad_right="edge" if pad == "edge" else "zeros",
        past=tuple(past),
    )


def _check(horizon: int, stride: int, history: int, pad: bool | Padding, pad_left: Padding) -> None:
    if horizon < 1 or stride < 1:
        raise DataError(f"horizon {horizon} and stride {stride} must both be at least 1.")
    if history < 0:
        raise DataError(f"history {history} must be at least 0.")
    kinds = get_args(Padding)
    for name, value, known in (("pad", pad, (True, False, *kinds)), ("pad_left", pad_left, kinds)):
        if value not in known:
            raise DataError(f"{name} {value!r} is unknown; choose one of {', '.join(map(repr, known))}.")


def _library(x: Any) -> Any:
    """numpy for its arrays, and jax.numpy for JAX's."""
    return np if isinstance(x, np.ndarray) else jnp


def _counted(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For groups of these sizes, one after another: every member's group, and its number within it, from 0."""
    first = np.cumsum(counts) - counts
    return np.repeat(np.arange(len(counts)), counts), np.arange(counts.sum()) - np.repeat(first, counts)


def _column(data: Dataset, name: str, discount: float, termination_penalty: float) -> Any:
    """The data's column of this name, `[N, ...]`, in its units."""
    if name in ("returns", "returns_to_go"):
        return rewards_to_go(data, discount, termination_penalty).astype(np.float32)
    if name == "costs_to_go":
        return costs_to_go(data, discount).astype(np.float32)
    if name == "timesteps":
        return _counted(np.diff(data.episodes)[:, 0])[1].astype(np.int32)
    if name == "rewards":
        return data.require_rewards()
    known = {"observations": data.observations, "actions": data.actions, "costs": getattr(data, "costs", None)}
    known |= {"terminals": data.terminals.astype(np.float32)}
    column = known[name] if name in known else data.infos.get(name)
    if column is None:
        names = ("rewards", "returns", "returns_to_go", "costs_to_go", "timesteps", *known, *data.infos)
        raise DataError(f"The data have no {name!r} for the windows' columns; choose of {', '.join(names)}.")
    return column.astype(np.int32) if name == "task" else column


def _normalised(spec: Spec, name: str, x: Any) -> Any:
    """`x` `[N, ...]` in network units; a number a step counts as one column."""
    if isinstance(x, np.ndarray) and x.ndim == 1:
        return spec.normalise(name, x[:, None])[:, 0]
    return spec.normalise(name, x)
