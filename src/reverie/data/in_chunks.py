"""Several actions in a row as one: what any method learns chunks from, as `environments.chunked` executes them."""

from dataclasses import replace

import jax
import numpy as np

from reverie.data.checking import frozen
from reverie.data.dataset import Dataset
from reverie.errors import DataError


def in_chunks(data: Dataset, size: float) -> Dataset:
    """The data of `size` actions in a row, side by side as one action, from every step on.

    A row's reward and cost are the sums of its steps', up to a terminal among them, and its successor is what is seen
    after the last. An episode becomes up to `size` episodes, one that begins at each of its first steps. A chunk that
    would reach beyond a terminal at the end repeats the last action, which is not executed; one that would reach beyond
    a cut is left out. Raises DataError for less than 1 or no whole number, for actions of several agents, and where no
    episode is long enough.
    """
    if size < 1 or size % 1:
        raise DataError(f"chunk={size:g} must be a whole number of at least 1: so many actions are one.")
    if data.actions.ndim != 2:
        raise DataError(
            f"chunk={size:g} is of one agent's actions, and these are {list(data.actions.shape[1:])} a step, of "
            "several; choose a method of teams."
        )
    n, starts, stops = int(size), data.episodes[:, 0], data.episodes[:, 1]
    lengths = stops - starts
    start, stop = np.repeat(starts, lengths), np.repeat(stops, lengths)
    row = np.arange(len(data))
    end = np.minimum(row + n, stop)
    known = (end < stop) | data.terminals[stop - 1] | (data.next_observations is not None)
    kept = row[known & ((row + n <= stop) | data.terminals[stop - 1])]
    if not kept.size:
        raise DataError(f"chunk={n}, but the longest episode has {lengths.max()} steps; choose a smaller one.")
    kept = kept[np.lexsort((kept, (kept - start[kept]) % n, start[kept]))]
    begins = start[kept]
    last = np.append((kept[1:] != kept[:-1] + n) | (begins[1:] != begins[:-1]), True)
    steps = np.minimum(kept[:, None] + np.arange(n), stop[kept, None] - 1)

    # A step counts that is inside, and before which none of the chunk's was a terminal.
    ended = np.maximum.accumulate(data.terminals[steps], 1)
    counts = (kept[:, None] + np.arange(n) < stop[kept, None]) & ~np.insert(ended[:, :-1], 0, False, 1)
    terminals = ended[:, -1]

    def total(values):
        return None if values is None else frozen((values[steps] * counts).sum(1, dtype=np.float64).astype(np.float32))

    def after(now, successors):
        following = now[np.minimum(end[kept], len(data) - 1)]
        at_end = now[stop[kept] - 1] if successors is None else successors[stop[kept] - 1]
        inside = (end < stop)[kept].reshape(-1, *[1] * (now.ndim - 1))
        return frozen(np.where(inside, following, at_end))

    successors = data.next_observations
    if successors is None:
        successors = jax.tree.map(lambda _: None, data.observations)
    observed = jax.tree.map(after, data.observations, successors, is_leaf=lambda leaf: leaf is None)
    low, high = (None if bound is None else np.tile(bound, n) for bound in (data.action_low, data.action_high))
    return replace(
        data,
        observations=jax.tree.map(lambda x: frozen(x[kept]), data.observations),
        actions=frozen(data.actions[steps].reshape(len(kept), -1)),
        rewards=total(data.rewards),
        costs=total(data.costs),
        terminals=frozen(terminals),
        timeouts=frozen(last & ~terminals),
        ends=None if data.ends is None else frozen(last),
        next_observations=observed,
        infos={key: frozen(value[kept]) for key, value in data.infos.items()},
        action_low=low,
        action_high=high,
        attributes={**data.attributes, "chunk": n},
    )
