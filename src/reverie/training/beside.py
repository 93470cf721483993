"""What batches are drawn from beside the replay: a data set, or what a synthesizer makes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Spec, concatenate
from reverie.data.replay import Mixed, Replay, room, write
from reverie.data.views import Transitions
from reverie.errors import DivergenceError, RunError
from reverie.training import loop
from reverie.training.fitting import ADVICE
from reverie.training.metrics import divergence
from reverie.training.settings import Synthesis


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


def synthesized(
    synthesizer: Any, data: Dataset, synthesis: Synthesis, key: jax.Array, *, capacity: int, seed: int, kept: str
) -> dict[str, np.ndarray]:
    """Rows that a fresh synthesizer makes after it has learned from the data, which will grow to `capacity` rows.
    Raises DivergenceError where its training does not stay finite, with the seed and what was `kept`."""
    view, spec = synthesizer.prepare(data)
    view, rows = roomy(view, capacity)
    # Two, as both number what they draw from 0 or 1 on.
    key, made_key = jax.random.split(key)
    each = loop.Each(key[None])
    states = loop.initial_states(synthesizer, each, spec)
    states, metrics, finite, _ = loop.advance(
        synthesizer, states, each, np.uint32(0), view, rows, length=synthesis.updates, seeds_by="map"
    )
    metrics, finite = jax.device_get((metrics, finite))
    if fault := divergence(metrics, finite, (seed,), 0):
        raise DivergenceError(f"The synthesizer's {fault} {kept} {ADVICE}")
    state = jax.tree.map(lambda leaf: leaf[0], states)
    return concatenate(*synthesizer.chunks(state, spec, made_key, synthesis.rows)).arrays()


def check_made(synthesizer: Any, made: dict[str, Any], algorithm: Any, rows: dict[str, Any]) -> None:
    """Raise RunError where rows that were made lack a column of the replay's that the algorithm needs."""
    if lacking := (rows.keys() - made.keys()) & set(algorithm.needs):
        raise RunError(
            f"{synthesizer.name} makes no {min(lacking)}, from which {algorithm.name} learns; choose another "
            "synthesizer, or none."
        )
