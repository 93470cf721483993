"""What may be wrong with a training: of the data, and of a run beside its demonstrations."""

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from reverie.data import Dataset
from reverie.data.fields import flatten
from reverie.errors import ReverieError
from reverie.evaluation.acting import RunPolicy
from reverie.evaluation.discounts import DISCOUNTS, order_by_discount
from reverie.training import Run, fit
from reverie.training.inputs import takes_goal

NEIGHBOURS = 24
"""Rows whose actions are compared at a state."""
STATES = 200
"""States at which they are."""
SEVERAL = 0.85
"""Share of the variance that two means explain, from which on actions count as two ways; a Gaussian's is 0.64."""
FAR = 5.0
"""How much wider than 99 % of the values a range may be, before it is told of."""
ORDERED = 0.8
"""Rank correlation with returns from which on discounted returns count as their order."""
STILL = 1.0
"""Grey levels by which a camera's pixels vary at least."""


class Finding(NamedTuple):
    """One thing that was looked at."""

    level: Literal["fine", "note", "wrong"]
    what: str
    said: str
    """What was found, and what would help."""


def check_data(data: Dataset, seed: int = 0) -> list[Finding]:
    """Actions that never change, numbers that spoil a normaliser's range, cameras that show
    nothing, and whether there are several ways to act in one state."""
    return [*_actions(data), *_ranges(data), *_cameras(data), _ways(data, seed)]


def check_run(run: Run, data: Dataset, episodes: int = 16, updates: int = 500, seed: int = 0) -> list[Finding]:
    """How near the run's actions are to those of demonstrations that it is shown step by step, at what shift they are
    nearest, and whether the same method can learn one demonstration by heart in so many `updates` (0: not tried).

    Errors are in standard deviations of the data's actions: 1 is that of always acting by the mean. A policy of several
    ways takes another one than the demonstration now and then, so that its error is no fault by itself. Raises
    ReverieError where the run's observations or actions are not those of the data.
    """
    if takes_goal(run.algorithm, run.spec):
        raise ReverieError(f"{run.algorithm.name} acts towards goals, which no row of a data set says")
    found = [*check_discount(run.algorithm, data), *_open_loop(run, data, episodes, seed)]
    return [*found, _by_heart(run, data, updates, seed)] if updates else found


def check_discount(algorithm: Any, data: Dataset) -> list[Finding]:
    """Whether the algorithm's discount, if it has one, tells the better episodes apart (`order_by_discount`)."""
    own = getattr(algorithm, "discount", 1.0)
    order = order_by_discount(data, sorted({own, *(each for each in DISCOUNTS if each > own)})) if own < 1 else {}
    if not order:
        return []
    said = f"by {own:g} discounted returns order the better half of the episodes as returns do, to {order[own]:.2f}"
    if order[own] >= ORDERED:
        return [Finding("fine", "discount", said)]
    better = next((each for each, value in order.items() if value >= ORDERED), max(order))
    advice = f"values at the start do not tell the best way to act; train with --discount {better:g}"
    return [Finding("note", "discount", f"{said} (1 is exactly so): {advice} ({order[better]:.2f})")]


def _actions(data: Dataset) -> list[Finding]:
    flat = data.actions.reshape(len(data), -1)
    constant = np.flatnonzero(flat.min(0) == flat.max(0))
    found = []
    if constant.size:
        numbers = ", ".join(map(str, constant))
        said = f"number {numbers} never changes: leave it out, or look at what wrote it"
        found.append(Finding("wrong", "actions", said))
    repeated = float((np.abs(np.diff(flat, axis=0)).max(1) == 0)[~data.last[:-1]].mean()) if len(data) > 1 else 0.0
    if repeated > 0.5:
        found.append(Finding("note", "actions", f"{repeated:.0%} are the same as the one before: a robot that waits"))
    return found or [Finding("fine", "actions", f"{flat.shape[1]} numbers, all of which change")]


def _ranges(data: Dataset) -> list[Finding]:
    """A single outlier makes of a range, which min-max normalisers map to [-1, 1], a point for all others."""
    vectors = {"actions": data.actions} | flatten("observations", data.observations)
    found = []
    for name, array in vectors.items():
        if array.dtype != np.float32:
            continue
        flat = array.reshape(len(array), -1)
        low, high = np.quantile(flat, (0.005, 0.995), axis=0)
        span, most = np.ptp(flat, axis=0), high - low
        for i in np.flatnonzero(span > FAR * np.maximum(most, 1e-12)):
            said = f"number {i} spans {span[i]:.3g}, and {most[i]:.3g} but for 1 %: outliers squeeze all else"
            found.append(Finding("note", name, said))
    return found or [Finding("fine", "ranges", f"none is more than {FAR:g} times as wide as 99 % of its values")]


def _cameras(data: Dataset) -> list[Finding]:
    found = []
    for name, frames in flatten("observations", data.observations).items():
        if frames.dtype != np.uint8:
            continue
        some = frames[np.unique(np.linspace(0, len(frames) - 1, 200).astype(int))].astype(np.float32)
        spread, bright = float(some.std(0).mean()), float(some.mean())
        level, said = ("fine", f"pixels vary by {spread:.1f} of 255 levels")
        if spread < STILL:
            level, said = "wrong", f"pixels vary by {spread:.2f} of 255 levels (mean {bright:.0f}): the camera is dead"
        found.append(Finding(level, name, said))  # type: ignore[arg-type]
    return found


def _ways(data: Dataset, seed: int) -> Finding:
    """Of the actions at each state's nearest rows, the share of their variance that two means explain."""
    parts = flatten("observations", data.observations).values()
    vectors = [x.reshape(len(x), -1) for x in parts if x.dtype == np.float32]
    if not vectors or len(data) < 10 * NEIGHBOURS:
        return Finding("note", "ways to act", "not looked at: no vectors in the observations, or too few rows")
    states = np.concatenate(vectors, 1)
    scale = states.std(0)
    states, actions = states / np.where(scale > 0, scale, 1), data.actions.reshape(len(data), -1)
    rng = np.random.default_rng(seed)
    pool = rng.permutation(len(data))[:20_000]
    shares = []
    for row in rng.choice(pool, min(STATES, len(pool)), replace=False):
        near = pool[np.argsort(np.square(states[pool] - states[row]).sum(1))[:NEIGHBOURS]]
        shares.append(two_means(actions[near]))
    several = float(np.mean(np.array(shares) > SEVERAL))
    said = f"in {several:.0%} of the states the nearest rows act in two ways"
    if several > 0.2:
        return Finding("note", "ways to act", f"{said}: a mean is neither; take a policy of any distribution")
    return Finding("fine", "ways to act", said)


def two_means(actions: np.ndarray) -> float:
    """The share of the variance of `[n, d]`, along its widest direction, that the best cut in two explains: 0.64 of
    many Gaussian numbers, 1 of two points; 0 where nothing varies."""
    centred = actions - actions.mean(0)
    if np.abs(centred).max() < 1e-6:
        return 0.0
    along = np.sort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
    n, left = len(along), np.arange(1, len(along))
    before = np.cumsum(along)[:-1]  # of a sum of 0, so that the other side's is its negative
    between = before**2 / left + before**2 / (n - left)
    return float(between.max() / np.square(along).sum())


def _open_loop(run: Run, data: Dataset, episodes: int, seed: int) -> list[Finding]:
    acted, shown = replayed(run, data, episodes, seed)
    scale = np.maximum(data.actions.reshape(len(data), -1).std(0), 1e-6)
    errors = {shift: _error(acted, shown, scale, shift) for shift in (-2, -1, 0, 1, 2)}
    nearest = min(errors, key=errors.__getitem__)
    said = f"{errors[0]:.2f} standard deviations from the demonstrations' (1 is that of their mean)"
    found = [Finding("fine" if errors[0] < 0.7 else "note", "open loop", said)]
    if nearest and errors[nearest] < 0.8 * errors[0]:
        said = f"actions are nearer ({errors[nearest]:.2f}) to those {abs(nearest)} steps "
        said += (
            "later: an observation may be stored beside the action before it" if nearest > 0 else "earlier: they lag"
        )
        found.append(Finding("wrong", "alignment", said))
    return found


def replayed(run: Run, data: Dataset, episodes: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The first seed's actions `[T, E, A]` where it is shown episodes of the data step by step, and the data's, with
    NaN after an episode's end."""
    alone = replace(run, states=jax.tree.map(lambda leaf: leaf[:1], run.states), seeds=run.seeds[:1])
    rng = np.random.default_rng(seed)
    chosen = data.episodes[rng.permutation(len(data.episodes))[:episodes]]
    longest = int(np.diff(chosen).max())
    policy = RunPolicy(alone, seed)
    policy.reset(len(chosen))
    acted, shown = [], []
    for step in range(longest):
        rows = np.minimum(chosen[:, 0] + step, chosen[:, 1] - 1)
        inside = chosen[:, 0] + step < chosen[:, 1]
        seen = jax.tree.map(lambda part, rows=rows: part[rows], data.observations)
        feedback = {} if data.rewards is None or not step else {"reward": data.rewards[np.maximum(rows - 1, 0)]}
        actions = policy.act(seen, feedback).reshape(len(chosen), -1)
        acted.append(np.where(inside[:, None], actions, np.nan))
        shown.append(np.where(inside[:, None], data.actions[rows].reshape(len(chosen), -1), np.nan))
    return np.stack(acted), np.stack(shown)


def _error(acted: np.ndarray, shown: np.ndarray, scale: np.ndarray, shift: int) -> float:
    """Root mean square of what is acted at t against what is shown at t + shift."""
    steps = len(acted) - abs(shift)
    if steps < 1:
        return float("inf")
    mine, theirs = acted[max(0, -shift) :][:steps], shown[max(0, shift) :][:steps]
    return float(np.sqrt(np.nanmean(np.square((mine - theirs) / scale))))


def _by_heart(run: Run, data: Dataset, updates: int, seed: int) -> Finding:
    one = data.take_episodes([0])
    learned = fit(run.algorithm, one, steps=updates, seed=seed, progress=False)
    acted, shown = replayed(learned, one, 1, seed)
    error = _error(acted, shown, np.maximum(one.actions.reshape(len(one), -1).std(0), 1e-6), 0)
    said = f"after {updates} updates on one demonstration {error:.2f} of its standard deviation"
    if error < 0.3:
        return Finding("fine", "by heart", said)
    return Finding("note", "by heart", f"{said}: raise the learning rate, --updates or the network's size")
