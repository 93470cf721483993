"""Views: the data on the device in the shape that a method trains on, and how a batch is drawn from it.

A view is a pytree of arrays. Pass it to a jitted function as an argument; then nothing is copied into the program
and a batch is gathered where the data lies. Rows are stored once and normalised once: memory is O(N) for windows too.
"""

from collections.abc import Mapping
from itertools import accumulate

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reverie.data.dataset import Dataset
from reverie.data.spec import Spec
from reverie.errors import DataError


class Transitions(eqx.Module):
    """Single steps, drawn uniformly with replacement."""

    rows: dict[str, Array]
    """`[M, ...]` each, in network units."""

    def __len__(self) -> int:
        return len(self.rows["actions"])

    def joined(self, rows: dict[str, Array]) -> "Transitions":
        """With further arrays `[M, ...]`, drawn with the others."""
        return Transitions(self.rows | rows)

    def draw(self, key: Array, batch_size: int) -> dict[str, Array]:
        """`observations, actions, next_observations, terminals` (float32, 1 where the task ends) and, where the
        data has them, `rewards`: `[batch_size, ...]` each."""
        index = jax.random.randint(key, (batch_size,), 0, len(self))
        return {name: rows[index] for name, rows in self.rows.items()}


class Windows(eqx.Module):
    """Windows of `horizon` steps, `stride` rows apart, every possible first row equally likely."""

    observations: Array
    """`[N, observation_dim]`, in network units."""
    actions: Array
    """`[N, action_dim]`, in network units."""
    returns: Array | None
    """Discounted reward to go, from every row to the end of its episode: `[N]`."""
    padding: tuple[Array, Array]
    """The observation and the action beyond an episode's end: zeros before normalisation."""
    starts: Array
    """The windows' first rows: int32 `[M]`."""
    stops: Array
    """For every window the row after its episode's last: int32 `[M]`."""
    horizon: int = eqx.field(static=True)
    stride: int = eqx.field(static=True)
    skipped: int = eqx.field(static=True)
    """Episodes that are too short to hold a window, and are left out."""

    def __len__(self) -> int:
        return len(self.starts)

    def draw(self, key: Array, batch_size: int) -> dict[str, Array]:
        """`observations [B, H, observation_dim]`, `actions [B, H, action_dim]`, `mask [B, H]` (1 inside the
        episode) and, where the data has rewards, `returns [B]` from the window's first step."""
        return self.take(jax.random.randint(key, (batch_size,), 0, len(self)))

    def take(self, index: Array) -> dict[str, Array]:
        """The windows with these numbers, `[B]` from `0` to `len(view) - 1`; shapes as in `draw`."""
        first = self.starts[index]
        rows = first[:, None] + self.stride * jnp.arange(self.horizon)
        inside = rows < self.stops[index][:, None]
        rows = jnp.minimum(rows, len(self.observations) - 1)
        batch = {
            "observations": jnp.where(inside[..., None], self.observations[rows], self.padding[0]),
            "actions": jnp.where(inside[..., None], self.actions[rows], self.padding[1]),
            "mask": inside.astype(jnp.float32),
        }
        return batch if self.returns is None else batch | {"returns": self.returns[first]}


def transitions(data: Dataset, spec: Spec) -> Transitions:
    """All steps whose successor is known (see `Dataset.with_next_observations`), normalised by `spec`.

    Next observations are normalised as observations, unless `spec` has a normaliser for `"next_observations"`. Raises
    DataError where no step is left.
    """
    return Transitions(transition_rows(data.with_next_observations().arrays(), spec))


def transition_rows(arrays: Mapping[str, np.ndarray | Array], spec: Spec) -> dict[str, Array]:
    """The arrays `[..., d]` of a data set (with `next_observations`) as rows in network units."""
    successor = "next_observations" if "next_observations" in spec.normalisers else "observations"
    rows = {
        "observations": spec.normalise("observations", arrays["observations"]),
        "actions": spec.normalise("actions", arrays["actions"]),
        "next_observations": spec.normalise(successor, arrays["next_observations"]),
        "terminals": jnp.asarray(arrays["terminals"], jnp.float32),
    }
    if "rewards" in arrays:
        rows["rewards"] = spec.normalise("rewards", arrays["rewards"][..., None])[..., 0]
    return rows


def sarsa(data: Dataset, spec: Spec) -> Transitions:
    """The steps whose next action is known too, with `next_actions` (a terminal's are its own, and never used): for
    the values of the behaviour itself. Raises DataError where no step is left."""
    last = np.zeros(len(data), bool)
    last[data.episodes[:, 1] - 1] = True
    kept = np.flatnonzero(~last | data.terminals)
    if kept.size == 0:
        raise DataError("Every episode is one step cut by a timeout, so no step has a next action.")
    following = np.where(last, np.arange(len(data)), np.arange(len(data)) + 1)
    known = data.next_observations
    rows = {
        "observations": spec.normalise("observations", data.observations[kept]),
        "actions": spec.normalise("actions", data.actions[kept]),
        "rewards": spec.normalise("rewards", data.require_rewards()[kept, None])[:, 0],
        "next_observations": spec.normalise(
            "observations", (data.observations[following] if known is None else known)[kept]
        ),
        "next_actions": spec.normalise("actions", data.actions[following][kept]),
        "terminals": jnp.asarray(data.terminals[kept], jnp.float32),
    }
    return Transitions(rows)


def pairs(data: Dataset, spec: Spec) -> Transitions:
    """All steps' `observations` and `actions` alone, normalised by `spec`: for imitation, which needs no successor."""
    rows = {"observations": data.observations, "actions": data.actions}
    return Transitions({name: spec.normalise(name, values) for name, values in rows.items()})


def windows(
    data: Dataset,
    spec: Spec,
    horizon: int,
    stride: int = 1,
    pad: bool = False,
    discount: float = 1.0,
    termination_penalty: float = 0.0,
) -> Windows:
    """Windows of `horizon` steps, `stride` rows apart, that never cross an episode's end.

    Without `pad` a window lies wholly inside its episode, and shorter episodes are left out (`view.skipped` counts
    them). With `pad` every row starts a window; steps beyond the end are zeros before normalisation, as in
    Diffuser (Janner et al. 2022), and have mask 0.

    `returns` is the sum of `discount**k * rewards[t + k]` from the window's first row t to the end of the episode
    (not of the window), in float64 on the host; `termination_penalty` is added to the last reward of an episode
    that ends by a terminal, never of one cut by a timeout. Diffuser uses -100.

    Raises DataError where no episode is long enough, naming the longest.
    """
    if horizon < 1 or stride < 1:
        raise DataError(f"horizon {horizon} and stride {stride} must both be at least 1.")
    starts, stops, skipped = _starts(data.episodes, 1 if pad else (horizon - 1) * stride + 1)
    if starts.size == 0:
        longest = int((data.episodes[:, 1] - data.episodes[:, 0]).max())
        raise DataError(
            f"No episode holds a window of horizon {horizon} with stride {stride} "
            f"({(horizon - 1) * stride + 1} steps): the longest has {longest}; shorten the horizon or pad."
        )
    returns = None
    if data.rewards is not None:
        returns = jnp.asarray(rewards_to_go(data, discount, termination_penalty), jnp.float32)
    return Windows(
        observations=spec.normalise("observations", data.observations),
        actions=spec.normalise("actions", data.actions),
        returns=returns,
        padding=(
            spec.normalise("observations", jnp.zeros(data.observation_dim)),
            spec.normalise("actions", jnp.zeros(data.action_dim)),
        ),
        starts=jnp.asarray(starts, jnp.int32),
        stops=jnp.asarray(stops, jnp.int32),
        horizon=horizon,
        stride=stride,
        skipped=skipped,
    )


def rewards_to_go(data: Dataset, discount: float = 1.0, termination_penalty: float = 0.0) -> np.ndarray:
    """From every row to the end of its episode, discounted: float64 `[N]`. Raises DataError without rewards."""
    rewards = data.require_rewards().astype(np.float64) + termination_penalty * data.terminals
    to_go = np.empty_like(rewards)
    for start, stop in data.episodes:
        backwards = reversed(rewards[start:stop].tolist())
        to_go[start:stop] = list(accumulate(backwards, lambda later, reward: reward + discount * later))[::-1]
    return to_go


def _starts(episodes: np.ndarray, needed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """First rows of the windows that need so many rows, the ends of their episodes, and the episodes left out."""
    counts = np.maximum(episodes[:, 1] - episodes[:, 0] - needed + 1, 0)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(episodes[:, 0], counts) + within, np.repeat(episodes[:, 1], counts), int((counts == 0).sum())
