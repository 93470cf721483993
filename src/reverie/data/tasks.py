"""Data of several tasks: which task each step is of, sets of single tasks together as one, and batches in which every
task has the same share.

The info "task" `[N]` is the number of each step's task, and the attribute "tasks" lists the tasks' names, by their
numbers: as LeRobotDatasets have their sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset, concatenate
from reverie.data.views import Rows, View
from reverie.errors import DataError


class Tasks(NamedTuple):
    """Of a data set with E episodes."""

    names: list[str]
    """By their numbers."""
    episode: np.ndarray
    """The number of each episode's task, int64 `[E]`."""


def tasks_of(data: Dataset) -> Tasks:
    """Raises DataError where the data have no tasks, where a step has none, where an episode has several, where two
    have one name, and where one is listed of which there is no episode."""
    names = listed(data, "tasks")
    numbers, starts = data.infos["task"].astype(np.int64), data.episodes[:, 0]
    if (numbers < 0).any():
        raise DataError(f"Step {int((numbers < 0).argmax())} has no task: its info 'task' is negative; leave it out.")
    episode = numbers[starts]
    mixed = np.repeat(episode, np.diff(data.episodes)[:, 0]) != numbers
    if mixed.any():
        at = int(np.searchsorted(starts, mixed.argmax(), "right")) - 1
        raise DataError(f"Episode {at} has steps of several tasks; give each episode one task, or cut it.")
    if missing := set(range(len(names))) - set(episode.tolist()):
        raise DataError(f"There is no episode of the task {names[min(missing)]!r}; leave it out of 'tasks'.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"The attribute 'tasks' lists {twice!r} twice; give each task a name of its own.")
    return Tasks(names, episode)


def listed(data: Dataset, what: str) -> list[str]:
    """The attribute "tasks", checked together with the info "task"; `what` the method calls them, such as "sentences".
    Raises DataError where there are none, or a number has none."""
    name = data.attributes.get("name", "this data set")
    found, numbers = data.attributes.get("tasks"), data.infos.get("task")
    if not isinstance(found, list) or not found or numbers is None:
        raise DataError(
            f"{name!r} has no {what}; give the info 'task' (the number of each step's {what[:-1]}) and the attribute "
            "'tasks' (the list of them)."
        )
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        how = f"has shape {list(numbers.shape)} and type {numbers.dtype}"
        raise DataError(f"The info 'task' {how}; give the whole number of each step's {what[:-1]}.")
    if numbers.max() >= len(found):
        raise DataError(f"The info 'task' is {numbers.max()} where 'tasks' lists {len(found)} {what}, from 0 on.")
    return list(map(str, found))


def join_tasks(sets: Mapping[str, Dataset]) -> Dataset:
    """One data set of several tasks, from one of each by its name, in this order.

    Raises DataError where there is none, and, naming the tasks, where observations, actions or bounds differ.
    """
    if not sets:
        raise DataError("There is no task to join; give a data set for each, by the task's name.")
    names = list(sets)
    numbered = [
        replace(
            data,
            infos={**data.infos, "task": np.full(len(data), number, np.int32)},
            attributes={**data.attributes, "name": name, "tasks": names},
        )
        for number, (name, data) in enumerate(sets.items())
    ]
    return concatenate(*numbered)


class Balanced(View):
    """A view of which every group has the same share of each batch, however many windows it has.

    Of a batch of B and K groups each has B // K, and the rest, B mod K, goes to groups in a row, of which the first is
    drawn: so that over batches all have the same. Within a group every window is equally likely.
    """

    view: Any
    """What batches are taken from."""
    members: Array
    """Numbers of the view's windows, group after group: int32 `[M]`."""
    first: Array
    """Where each group begins among them: int32 `[K]`."""
    sizes: Array
    """Windows of each group, at least 1: int32 `[K]`."""

    @property
    def rows(self) -> Rows:
        return self.view.rows

    def __len__(self) -> int:
        return len(self.members)

    def index(self, key: Array, batch_size: int) -> Array:
        first_key, key = jax.random.split(key)
        count = len(self.sizes)
        group = (jax.random.randint(first_key, (), 0, count) + jnp.arange(batch_size)) % count
        sizes, first = jnp.asarray(self.sizes), jnp.asarray(self.first)
        return jnp.asarray(self.members)[first[group] + jax.random.randint(key, (batch_size,), 0, sizes[group])]

    def take(self, index: Array | np.ndarray) -> Rows:
        return self.view.take(index)


def balanced(view: Any, groups: Sequence[int] | np.ndarray) -> Balanced:
    """The view with equal shares of its `groups`, the number of each of its windows' group `[M]`, from 0 on; those with
    a negative one are never drawn. Raises DataError where a group has no window."""
    groups = np.asarray(groups)
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    sizes = np.bincount(groups[order], minlength=1)
    if not sizes.all():
        raise DataError(f"Group {int((sizes == 0).argmax())} has no window to draw; leave it out, or give it some.")
    parts = order, np.cumsum(sizes) - sizes, sizes
    return Balanced(view, *(jnp.asarray(part, jnp.int32) for part in parts))


def text_rows(texts: Sequence[str]) -> np.ndarray:
    """Texts as bytes, uint8 `[K, L]`, to be kept with a run."""
    rows = [text.encode() for text in texts]
    longest = max(1, max(map(len, rows)))
    return np.stack([np.frombuffer(row.ljust(longest, b"\0"), np.uint8) for row in rows])


def texts(rows: Any) -> list[str]:
    """What `text_rows` was given."""
    return [bytes(row).rstrip(b"\0").decode() for row in np.asarray(rows)]


__all__ = ["Balanced", "Tasks", "balanced", "join_tasks", "listed", "tasks_of", "text_rows", "texts"]
