"""Segments: H steps taken as one, as methods see them that choose among latents or chunks of actions."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec, Windows, windows


class Segments(Windows):
    """Windows of H + 1 rows, the last one where the next segment begins; derived columns have a row a window."""

    @classmethod
    def of(cls, data: Dataset, spec: Spec, horizon: int) -> "Segments":
        """At an episode's end the last row stands for those that are missing."""
        data.require_rewards(), data.require_terminals()
        columns = ("observations", "actions", "rewards", "terminals")
        view = windows(data, spec, horizon + 1, pad="edge", columns=columns)
        return cls(**{field.name: getattr(view, field.name) for field in fields(view)})

    def joined(self, rows, per_window=None) -> "Segments":
        """With further columns `[M, ...]`, one row a window."""
        view = super().joined({}, rows | (per_window or {}))
        return replace(self, per_window=view.per_window)

    @property
    def last_observations(self) -> jax.Array:
        """Every window's last row, `[M, observation]`."""
        last = self.starts + self.horizon - 1
        return self.rows["observations"][jnp.minimum(last, self.episodes[self.episode, 1] - 1)]


def segment_returns(rewards, terminals, mask, discount: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of windows `[..., H + 1]`, at the episode's end padded by its last row: the discounted rewards before the last
    row, what the value of the last row's state counts for, and the steps in between, `[...]` each.

    That is discount^H inside the episode; 0 where the task ends before, and all rewards are summed; discount^n where
    the episode is cut after n + 1 steps: of the last one the next state is not known, and it is left out.
    """
    cut = 1 - mask[..., -1]
    ended = cut * terminals[..., -1]
    steps = mask[..., :-1].sum(-1) - cut * (1 - ended)
    number = jnp.arange(mask.shape[-1] - 1)
    total = (discount**number * rewards[..., :-1] * (number < steps[..., None])).sum(-1)
    return total, (1 - ended) * discount**steps, steps
