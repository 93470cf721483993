"""Methods of several tasks: prompts that tell the task, and returns that count by task.

A prompt is some steps in a row of a demonstration, observation and action of each (Xu et al. 2022, "Prompting Decision
Transformer for Few-Shot Policy Generalization"). Of every task some demonstrations are left out of the training and
kept with the run: in training prompts are drawn from them, in acting a task is asked for by its name or number, or by
another demonstration.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec, balanced, rewards_to_go
from reverie.data.tasks import Balanced, Tasks, tasks_of, text_rows, texts
from reverie.data.windows import Windows
from reverie.errors import DataError
from reverie.settings import Count, Settings
from reverie.wishes import Wish, Wishes

PROMPTS = "prompts"
"""Of a specification's `kept`: the demonstrations' `observations` `[R, s]` and `actions` `[R, a]`, one's rows after
another's, where each begins and how many rows it has, `starts` and `lengths` int32 `[K, P]` of K tasks, and their
`names` as bytes, uint8 `[K, L]`."""
TASK = "task"
"""The wish for a task. Of a batch: int32 `[B]`, each window's task by its number among the specification's."""
RANGES = "task_returns"
"""Of a specification's `kept`: the lowest and the highest return of every task, float32 `[K, 2]`."""
BEST_EPISODES = "task_best_episodes"
"""Of a specification's `kept`: what the best of every task's episodes has at its start, in the units in which the
method is asked for a return, float32 `[K]`. The highest of all steps is another: no episode may begin with it."""


class Prompts(eqx.Module):
    """The demonstrations of K tasks, P of each, in network units."""

    rows: jax.Array
    """Observations and actions side by side, `[R, s + a]`."""
    starts: jax.Array
    """Where the part of each begins that prompts are of, int32 `[K, P]`."""
    lengths: jax.Array
    """Rows of this part, int32 `[K, P]`."""
    steps: int = eqx.field(static=True)
    """Of a prompt."""

    def draw(self, key, task) -> jax.Array:
        """A prompt `[B, steps, s + a]` for each of the tasks, int `[B]`: any steps in a row of any demonstration's
        part."""
        which_key, key = jax.random.split(key)
        which = jax.random.randint(which_key, task.shape, 0, self.starts.shape[1])
        offset = jax.random.randint(key, task.shape, 0, self.lengths[task, which] - self.steps + 1)
        return self.rows[(self.starts[task, which] + offset)[:, None] + jnp.arange(self.steps)]


@dataclass(frozen=True)
class Prompted(Settings):
    """What methods share that are told their task by a prompt."""

    prompts_at_end: ClassVar[bool] = False
    """Whether prompts are of a demonstration's end, and not of its beginning."""

    prompt_steps: Count = 20
    """Steps of a demonstration that tell the task."""
    prompt_starts: Count = 150
    """Steps, the demonstration's first ones, at which prompts begin in training, as in the released code: after its
    task is done there is less to tell. In acting a kept demonstration's prompt begins at the first of them."""
    demonstrations: Count = 1
    """Of each task, left out of the training, of which prompts are: those of the highest return, or the first."""

    def with_prompts(self, data: Dataset, spec: Spec) -> Spec:
        """The specification that keeps the data's demonstrations; unchanged where it keeps some.

        Raises DataError where the data have no tasks, where observations or actions are no vectors, and where a task
        has too few episodes that are long enough.
        """
        if PROMPTS in spec.kept:
            return spec
        _ = data.observation_dim, data.action_dim
        tasks = tasks_of(data)
        chosen = np.array([self._chosen(data, tasks, number) for number in range(len(tasks.names))])
        spans = data.episodes[chosen]
        lengths = spans[..., 1] - spans[..., 0]
        rows = np.concatenate([np.arange(*span) for span in spans.reshape(-1, 2)])
        kept = {
            "names": text_rows(tasks.names),
            "observations": data.observations[rows],
            "actions": data.actions[rows],
            "starts": (np.cumsum(lengths) - lengths.ravel()).reshape(lengths.shape).astype(np.int32),
            "lengths": lengths.astype(np.int32),
        }
        return replace(spec, kept=spec.kept | {PROMPTS: jax.tree.map(jnp.asarray, kept)})

    def _chosen(self, data: Dataset, tasks: Tasks, number: int) -> list[int]:
        """The episodes of a task's demonstrations."""
        mine = np.flatnonzero(tasks.episode == number)
        long = mine[np.diff(data.episodes)[mine, 0] >= self.prompt_steps]
        if len(long) < self.demonstrations or len(mine) == self.demonstrations:
            raise DataError(
                f"The task {tasks.names[number]!r} has {len(mine)} episodes, of which {len(long)} have the prompts' "
                f"{self.prompt_steps} steps, and {self.demonstrations} are to be kept as demonstrations and others to "
                "be learned; give more, or take shorter prompts or fewer demonstrations."
            )
        best = long if data.rewards is None else long[np.argsort(-data.returns[long], kind="stable")]
        return best[: self.demonstrations].tolist()

    def prompts(self, spec: Spec) -> Prompts:
        kept: Any = spec.kept[PROMPTS]
        both = [spec.normalise(name, kept[name]) for name in ("observations", "actions")]
        return Prompts(jnp.concatenate(both, -1), *self.parts_shown(spec), self.prompt_steps)

    def parts_shown(self, spec: Spec) -> tuple[jax.Array, jax.Array]:
        """Where the part of each demonstration begins that prompts are of, and its rows, int32 `[K, P]` both."""
        kept: Any = spec.kept[PROMPTS]
        lengths = jnp.minimum(kept["lengths"], self.prompt_starts + self.prompt_steps - 1)
        return kept["starts"] + (kept["lengths"] - lengths if self.prompts_at_end else 0), lengths

    def prompt_shape(self, spec: Spec) -> tuple[int, int]:
        """Steps and columns of a prompt."""
        return self.prompt_steps, spec.observation_dim + spec.action_dim

    def first_prompts(self, spec: Spec) -> jax.Array:
        """The first of the prompts of each task's first demonstration, `[K, steps, s + a]`, in the data's units: one of
        those that training draws."""
        kept: Any = spec.kept[PROMPTS]
        index = self.parts_shown(spec)[0][:, :1] + np.arange(self.prompt_steps)
        return jnp.concatenate([kept["observations"][index], kept["actions"][index]], -1)

    def of_tasks(self, spec: Spec, prompt, values, otherwise) -> jax.Array:
        """Those of `values` `[K]` that are of the tasks of prompts `[n, steps, s + a]`, in the environment's units;
        `otherwise` of a demonstration of one's own, as its task is not known. `[n]`."""
        same = (jnp.asarray(prompt)[:, None] == self.first_prompts(spec)).all((-2, -1))
        return jnp.where(same.any(1), jnp.asarray(values)[same.argmax(1)], otherwise)

    def best_episodes(self, spec: Spec) -> Callable[[Wishes], np.ndarray]:
        """The default of a return: what the best of the asked task's episodes has at its start; of a demonstration of
        one's own the mean of all tasks' such."""
        best: Any = spec.kept[BEST_EPISODES]
        return lambda wishes: np.asarray(self.of_tasks(spec, wishes[TASK], best, best.mean()))

    def in_network_units(self, spec: Spec, prompt) -> jax.Array:
        """Prompts `[..., steps, s + a]` in the environment's units."""
        seen, done = jnp.split(jnp.asarray(prompt), [spec.observation_dim], -1)
        return jnp.concatenate([spec.normalise("observations", seen), spec.normalise("actions", done)], -1)

    def one_hot_wish(self, spec: Spec) -> Wish:
        """A task of the data, to be told by a one-hot. By default the data's only one."""
        names = task_names(spec)
        rows = dict(zip(names, np.asarray(one_hot(jnp.arange(len(names)), len(names))), strict=True))
        default = rows[names[0]] if len(names) == 1 else None
        return Wish("a task by its name or number", shape=(1, len(names)), default=default, choices=rows)

    def by_task(self, view: Windows, data: Dataset, spec: Spec) -> Balanced:
        """The windows with the column `TASK`, of which all tasks have the same share of a batch, and those of the
        demonstrations none. Raises DataError for a task that the specification does not know."""
        groups = step_tasks(data, spec)[np.asarray(view.starts)]
        return balanced(view.joined({}, {TASK: jnp.asarray(groups, jnp.int32)}), groups)

    def task_wish(self, spec: Spec) -> Wish:
        """A task, to be asked for by the first prompt of its first demonstration, or by any other. By default the
        data's only one; where they have several, one must be given."""
        names, first = task_names(spec), np.asarray(self.first_prompts(spec))
        prompts = dict(zip(names, first, strict=True))
        default = next(iter(prompts.values())) if len(prompts) == 1 else None
        about = f"a task by its name or number, or {self.prompt_steps} steps of a demonstration, observation and action"
        return Wish(about, shape=self.prompt_shape(spec), default=default, choices=prompts)


def one_hot(task, count: int) -> jax.Array:
    """Of tasks, int `[...]`, a row each, `[..., 1, count]`; of a negative one 0."""
    return jax.nn.one_hot(task, count)[..., None, :]


def task_names(spec: Spec) -> list[str]:
    """Of the data that it was fitted to, by their numbers."""
    return texts(spec.kept[PROMPTS]["names"])


def task_numbers(data: Dataset, spec: Spec) -> np.ndarray:
    """The number of each step's task among the specification's, int64 `[N]`. Raises DataError for a task that it does
    not know."""
    names, episode = tasks_of(data)
    known = {name: number for number, name in enumerate(task_names(spec))}
    if unknown := [name for name in names if name not in known]:
        raise DataError(f"The run to go on from was not told of {unknown[0]!r}; its tasks are {', '.join(known)}.")
    return np.repeat(np.array([known[name] for name in names])[episode], np.diff(data.episodes)[:, 0])


def step_tasks(data: Dataset, spec: Spec) -> np.ndarray:
    """As `task_numbers`, and -1 in the demonstrations that the specification keeps."""
    hidden = np.repeat(kept_episodes(data, spec), np.diff(data.episodes)[:, 0])
    return np.where(hidden, -1, task_numbers(data, spec))


def kept_episodes(data: Dataset, spec: Spec) -> np.ndarray:
    """Which of the data's episodes are demonstrations that the specification keeps, row by row: bool `[E]`."""
    kept = jax.tree.map(np.asarray, spec.kept[PROMPTS])
    names, lengths = ("observations", "actions"), np.diff(data.episodes)[:, 0]
    found = np.zeros(len(lengths), bool)
    for start, length in zip(kept["starts"].ravel(), kept["lengths"].ravel(), strict=True):
        alike = (lengths == length) & (data.observations[data.episodes[:, 0]] == kept["observations"][start]).all(-1)
        for episode in np.flatnonzero(alike):
            theirs, ours = slice(*data.episodes[episode]), slice(start, start + length)
            found[episode] |= all(np.array_equal(getattr(data, name)[theirs], kept[name][ours]) for name in names)
    return found


def mean_rewards_to_go(data: Dataset, discount: float) -> np.ndarray:
    """The discounted mean of the rewards from every step to its episode's end, sum(discount^k r) / sum(discount^k):
    float64 `[N]`. Unlike the sum it does not fall with the steps that are left. Raises DataError without rewards."""
    ones = replace(data, rewards=np.ones(len(data), np.float32))
    return rewards_to_go(data, discount) / rewards_to_go(ones, discount)


def ranges_by_task(values: np.ndarray, tasks: np.ndarray, count: int) -> np.ndarray:
    """Every task's lowest and highest of the values `[N]`, float32 `[count, 2]`; `tasks` int `[N]` are theirs."""
    ranges = np.stack([np.full(count, np.inf), np.full(count, -np.inf)], 1)
    np.minimum.at(ranges[:, 0], tasks, values)
    np.maximum.at(ranges[:, 1], tasks, values)
    return ranges.astype(np.float32)


def shares_by_task(values: np.ndarray, tasks: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """0 at the task's lowest value, 1 at its highest, 0 where it has one only: float32 `[N]`."""
    low, high = np.asarray(ranges, np.float64)[tasks].T
    return ((values - low) / np.where(high > low, high - low, 1.0)).astype(np.float32)


__all__ = [
    "BEST_EPISODES", "PROMPTS", "RANGES", "TASK", "Prompted", "Prompts", "kept_episodes", "mean_rewards_to_go",
    "one_hot", "ranges_by_task", "shares_by_task", "step_tasks", "task_names", "task_numbers",
]  # fmt: skip
