"""Data of which only some rows have actions: videos beside demonstrations."""

from dataclasses import fields, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, MinMax, Spec, Windows
from reverie.errors import DataError

COLUMN = "has_actions"
"""The info that says which rows have actions, by 1 and 0; without it all have."""


class Demonstrated(Windows):
    """Windows of which half of a batch, rounded up, have an action at their current step; the others may or not."""

    known: jax.Array
    """The numbers of those windows, int32 `[M]`."""
    count: int = eqx.field(static=True)

    @classmethod
    def of(cls, view: Windows, known: np.ndarray) -> "Demonstrated":
        """known: bool `[N]`, of the data's rows. Raises DataError where no window begins at any."""
        found = np.flatnonzero(known[np.asarray(view.starts)])
        if not len(found):
            raise DataError(
                f"None of the {len(view)} windows' current steps has an action, where {known.sum()} of {len(known)} "
                f"rows have one ({COLUMN!r}); give longer episodes, or shorten the horizon."
            )
        parts = {field.name: getattr(view, field.name) for field in fields(view)}
        return cls(**parts, known=jnp.asarray(found, jnp.int32), count=len(found))

    def index(self, key, batch_size: int) -> jax.Array:
        any_key, known_key = jax.random.split(key)
        any_one = super().index(any_key, batch_size // 2)
        which = jax.random.randint(known_key, (batch_size - batch_size // 2,), 0, self.count)
        return jnp.concatenate([any_one, self.known[which].astype(any_one.dtype)])


def rows_with_actions(data: Dataset) -> np.ndarray:
    """Bool `[N]`. Raises DataError where the column holds anything but 0 and 1, or more than a number a row."""
    if COLUMN not in data.infos:
        return np.ones(len(data), bool)
    column = np.asarray(data.infos[COLUMN])
    if column.shape != (len(data),) or not np.isin(column, (0, 1)).all():
        odd = list(column.shape) if column.ndim != 1 else column[~np.isin(column, (0, 1))][0]
        raise DataError(f"The info {COLUMN!r} holds {odd}; give one number a row, 1 with an action and 0 without.")
    return column != 0


def fitted(data: Dataset, known: np.ndarray) -> Spec:
    """Ranges to [-1, 1]: the observations' of all rows, the actions' of rows that have some, bool `[N]`; where none
    has, the actions' bounds."""
    spec = Spec.fit(data, observations=MinMax, actions=MinMax)
    actions = data.actions[known] if known.any() else np.stack(data.action_bounds)
    return replace(spec, normalisers=spec.normalisers | {"actions": MinMax.fit(actions)})
