"""What a window is told of itself, so that a planner can be asked for it: its return, and labels that the data have.

In training a window is told one thing, or nothing. In acting several are composed, each with a scale, by
classifier-free guidance (Ajay et al. 2023, eq. 9). Entry 0 of a condition is the return; the others are the labels'
values, in the order of their sorted names: `skill_0` for the value 0 of the label `skill`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec
from reverie.data.windows import Windows
from reverie.diffusion import compose
from reverie.errors import DataError, ReverieError
from reverie.networks import MLP
from reverie.settings import Acting, Fraction, Settings
from reverie.wishes import Wish, Wishes

RETURN = "target_return"
"""The wish for a return."""
LABELS = "labels"
"""Of a specification's `kept`: every label's values, ascending, by its name. Of a batch: int32 `[B, L]`, the entries
that the labels have in a condition, -1 where a window has none."""
MOST = 100
"""Values of a label; more are taken for a measurement."""
EPISODE_RETURNS = "episode_returns"
"""Of a specification's `normalisers`: the range of the returns from episodes' starts on, which is what can be asked
for there. That of all steps is another: where rewards are negative, only an episode's last steps have the highest."""
BEST = 0.9
"""Of the way from the lowest to the highest return of an episode: the default wish. The paper's 0.9 is of a scale given
by hand."""


@dataclass(frozen=True)
class Guided(Settings):
    """Settings of what denoises windows that are told something, by classifier-free guidance."""

    told: Fraction = 0.75
    """Share of the windows that are told something of themselves in training."""
    guidance_scale: Acting[float] = 1.2
    """Scale of the return that is asked for: 1 samples windows of that return, 0 does not ask for any."""


@dataclass(frozen=True)
class Conditional(Guided):
    """Settings of planners whose windows are told something, and what they can be asked for.

    Raises ReverieError for a label that is named twice.
    """

    labels: tuple[str, ...] = ()
    """Infos of the data, a whole number a step, that can be asked for: skills, constraints. Negative: no label."""
    return_to_go: Acting[bool] = False
    """Whether what is asked for is a return from now on, of which each later step asks for what is still to come:
    (wish - reward) / discount. Else every step asks for the wish as it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.labels)) < len(self.labels):
            raise ReverieError(f"labels = {self.labels} name one of them twice; give each once")

    def with_label_values(self, data: Dataset, spec: Spec) -> Spec:
        """The specification that also knows what values the labels have."""
        return replace(spec, kept=spec.kept | {LABELS: label_values(data, self.labels)}) if self.labels else spec

    def labelled(self, view: Windows, data: Dataset, spec: Spec) -> Windows:
        """The windows with the labels of their current steps."""
        return with_labels(view, data, self.labels, spec.kept.get(LABELS, {}))

    def wishes(self, spec: Spec) -> Mapping[str, Wish]:
        return condition_wishes(spec)

    def ask(self, wishes: Wishes, n: int) -> "Asked":
        """Of n environments."""
        return ask(wishes, n, self.guidance_scale)

    def ask_again(self, asked: "Asked", wishes: Wishes, n: int) -> "Asked":
        """For other things in the middle of an episode. A return counts from the next step on, and one that is not
        asked for again goes on as it was."""
        again = self.ask({**asked.wishes, **wishes}, n)
        return again if RETURN in wishes else again._replace(steps=asked.steps)


def label_values(data: Dataset, labels: Iterable[str]) -> dict[str, np.ndarray]:
    """The values that each of these infos of the data has: int32 `[V]`, ascending. A negative one says that a step has
    no label. Raises DataError for an info that is not there, or is no whole number a step."""
    return {name: np.unique(_label(data, name)) for name in labels}


def with_labels(view: Windows, data: Dataset, labels: Iterable[str], known: Mapping[str, Any]) -> Windows:
    """The windows with the column `"labels"`: what they are told of their current step. `known` are the values that a
    condition has entries for, by the label's name. Raises DataError for a label or a value that is not among them."""
    labels, starts = list(labels), np.asarray(view.starts)
    if unknown := [name for name in labels if name not in known]:
        raise DataError(f"The run to go on from was told no label {unknown[0]!r}; it was told {_listed(known)}.")
    entries = [_entries(name, _label(data, name, empty=True)[starts], known) for name in labels]
    return view.joined({}, {LABELS: jnp.asarray(np.stack(entries, 1))}) if labels else view


def condition_size(spec: Spec) -> int:
    """Things that can be told: the return, and every label's values."""
    return 1 + sum(len(values) for values in spec.kept.get(LABELS, {}).values())


def condition(entry, returns, size: int) -> jax.Array:
    """The vector `[..., size + 1]` that tells one thing: the entry (int `[...]`; -1 tells nothing, and is all zeros);
    of entry 0 the `returns` `[...]`, in network units."""
    one_hot = jax.nn.one_hot(entry, size)
    return jnp.concatenate([one_hot[..., :1] * jnp.asarray(returns)[..., None], one_hot], -1)


def told(batch: Mapping[str, Any], key, share: float, size: int) -> jax.Array:
    """Conditions `[B, size + 1]` to train with: of a `share` of the windows one of the things known of them, each of
    them (the return and every label) equally often."""
    which_key, told_key = jax.random.split(key)
    index = batch["index"]
    things = [jnp.zeros(index.shape, jnp.int32)[:, None]] if "returns" in batch else []
    entries = jnp.concatenate([*things, *([batch[LABELS]] if LABELS in batch else [])], -1)
    which = jax.random.randint(which_key, index.shape, 0, entries.shape[-1])
    entry = jnp.take_along_axis(entries, which[:, None], 1)[:, 0]
    entry = jnp.where(jax.random.bernoulli(told_key, share, index.shape), entry, -1)
    return condition(entry, batch["returns"] if "returns" in batch else jnp.zeros(index.shape), size)


class Told(eqx.Module):
    """A network of windows that is given an embedding of its condition, which is 0 where nothing is told."""

    net: Any
    """`net(x, t, embedding)`."""
    embedding: MLP
    size: int = eqx.field(static=True)

    def __init__(self, key, net: Any, size: int, dim: int):
        """The embedding has `dim` numbers; its widths are those of the released code."""
        self.net, self.size = net, size
        self.embedding = MLP(key, size + 1, dim, hidden=(dim, 4 * dim))

    def __call__(self, x, t, condition) -> jax.Array:
        return self.net(x, t, condition[..., 1:].sum(-1, keepdims=True) * self.embedding(condition))


class Asked(NamedTuple):
    """What is asked for, an environment a row."""

    wishes: dict[str, Any]
    """All wishes, `[n]` each."""
    entries: Any
    """The M entries of a condition that are asked for: int32 `[n, M]`."""
    scales: Any
    """How much each of them counts, `[n, M]`; 0 where an environment asks for fewer."""
    steps: Any
    """Since the return was asked for, where it is one to go: int32 `[n]`."""


def label_wishes(values: Mapping[str, Any]) -> dict[str, Wish]:
    """Of every label's values: the scale with which it is asked for."""
    return {
        f"{name}_{value}": Wish(f"scale of {name} = {value}: 1 samples what has it, negative for NOT", default=0.0)
        for name, known in values.items()
        for value in np.asarray(known).tolist()
    }


def condition_wishes(spec: Spec) -> dict[str, Wish]:
    """The return, where the data have rewards, and the labels' values."""
    labels = label_wishes(spec.kept.get(LABELS, {}))
    if "returns" not in spec.normalisers:
        return labels
    known = EPISODE_RETURNS if EPISODE_RETURNS in spec.normalisers else "returns"  # earlier runs know that of all steps
    low, high = np.asarray(spec.denormalise(known, jnp.array([[-1.0], [1.0]])))[:, 0].tolist()
    what, default = "discounted return to go, from an episode's start", low + BEST * (high - low)
    wish = Wish(what, "return", default=default, low=low, high=high)
    return {RETURN: wish} | labels


def ask(wishes: Wishes, n: int, return_scale: float) -> Asked:
    """On the host. Of what is asked for with a scale of 0, which is nothing, no more is evaluated than must be."""
    names = sorted(set(wishes) - {RETURN})
    columns = [np.full(n, return_scale if RETURN in wishes else 0.0), *(np.asarray(wishes[name]) for name in names)]
    scales = np.stack(columns, 1).astype(np.float32)
    most = int((scales != 0).sum(1).max())
    entries = np.argsort(-np.abs(scales), 1, kind="stable")[:, :most].astype(np.int32)
    return Asked(dict(wishes), entries, np.take_along_axis(scales, entries, 1), np.zeros(n, np.int32))


def still_to_come(asked: Asked, reward, discount: float) -> Asked:
    """What is asked for when the last step has brought `reward` `[n]`, in the data's units: of a return R its return to
    go, (R - reward) / discount; and R itself at the step before which it was asked for.

    It is not held in the range that was seen in training. What an episode falls short of, or is ahead by, grows by
    1 / discount a step: it means something as long as the discount leaves much of an episode's last reward.
    """
    if RETURN not in asked.wishes:
        return asked
    wanted = jnp.asarray(asked.wishes[RETURN])
    to_go = jnp.where(asked.steps > 0, (wanted - reward) / discount, wanted)
    return asked._replace(wishes={**asked.wishes, RETURN: to_go}, steps=asked.steps + 1)


def guided(predict: Callable, asked: Asked, spec: Spec) -> Callable:
    """The denoiser of windows x `[n, H, D]` by `predict(x, t, condition)`, led to what is asked for; one evaluation of
    a batch of M + 1 times as many windows."""
    wanted = jnp.asarray(asked.wishes.get(RETURN, jnp.zeros(len(asked.scales))))
    returns = spec.normalise("returns", wanted[:, None]) if "returns" in spec.normalisers else wanted[:, None]
    size = condition_size(spec)
    vectors = condition(asked.entries, jnp.broadcast_to(returns, asked.entries.shape), size)
    scales = [scale[:, None, None] for scale in jnp.moveaxis(jnp.asarray(asked.scales), 1, 0)]
    return compose(predict, list(jnp.moveaxis(vectors, 1, 0)), scales, jnp.zeros(size + 1))


def _label(data: Dataset, name: str, empty: bool = False) -> np.ndarray:
    """Every step's, int32 `[N]`; without those of no label unless `empty`."""
    if name not in data.infos:
        raise DataError(f"The data have no label {name!r}; their infos are {_listed(data.infos)}.")
    column = np.asarray(data.infos[name])
    if column.ndim != 1 or column.dtype.kind not in "biuf" or (column != np.round(column)).any():
        what = f"has shape {list(column.shape)} and type {column.dtype}"
        raise DataError(f"The label {name!r} {what}; give a whole number a step, negative where there is no label.")
    known = column[column >= 0]
    if not 0 < len(np.unique(known)) <= MOST:
        raise DataError(f"The label {name!r} has {len(np.unique(known))} values; give one of 1 to {MOST}.")
    return (column if empty else known).astype(np.int32)


def _entries(name: str, column: np.ndarray, known: Mapping[str, Any]) -> np.ndarray:
    """Where a label's values `[W]` are in a condition; -1 where there is none."""
    names = sorted(label_wishes(known))
    place = {value: 1 + names.index(f"{name}_{value}") for value in np.asarray(known[name]).tolist()}
    found, inverse = np.unique(column, return_inverse=True)
    if unknown := [value for value in found.tolist() if value >= 0 and value not in place]:
        raise DataError(f"The label {name!r} is {unknown[0]} where the run to go on from knew {_listed(place)}.")
    return np.array([place.get(value, -1) for value in found.tolist()], np.int32)[inverse]


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "none"
