"""What batches are drawn from beside the replay: a data set, or what a synthesizer makes."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from reverie.data import Dataset, Spec
from reverie.data.replay import Mixed, Replay, room, write
from reverie.data.views import Transitions
from reverie.training import loop


def offline_view(algorithm: Any, data: Dataset | None, spec: Spec) -> Any:
    """What batches are drawn from of the data set; None where there is none."""
    if data is None:
        return None
    view, _ = algorithm.prepare(data, spec)
    copies = loop.copied_columns(algorithm)
    return view.joined({name: view.rows[of] for name, of in copies.items()}) if copies else view


def mixed(first: Any, rows: dict[str, Any], second: Any, made: dict[str, Any], share: float) -> tuple[Mixed, Any]:
    """A part of each batch from `second`, of which every seed has the rows `made` `[S, n, ...]` of its own, or all have
    the same; and the rows of both. A batch has the columns that both have: most synthesizers make no costs."""
    if isinstance(second, Transitions):
        names = set(rows) & set(second.rows)
        second = Transitions({name: second.rows[name] for name in names})
    else:
        names = set(rows) & set(made) if made else set(rows)
    own = {name: made[name] for name in names} if made else {}
    return Mixed(first, second, share), {"first": {name: rows[name] for name in names}, "second": own}


def roomy(view: Any, capacity: int) -> tuple[Any, dict[str, Any] | None]:
    """Transitions with room for all that will come, as a view without rows and these, `[1, capacity, ...]`: what grows
    is compiled once. Another view, or one of more rows, is as it is, and compiled anew for every size."""
    if not isinstance(view, Transitions) or len(view) > capacity:
        return view, None
    rows = {name: x[None] for name, x in view.rows.items()}
    return Replay({}, jnp.asarray(len(view))), write(room(rows, capacity), jnp.asarray(0), rows)
