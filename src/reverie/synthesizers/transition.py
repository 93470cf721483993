"""The transition (s, a, r, s', terminal) as one vector, and back again.

Each part is of a kind. Observations, rewards and next observations are continuous: every column is standardised by
itself. So are actions, and what is generated is clipped to their bounds. The terminal is binary: 0 or 1 for the
network (or standardised as well), and true above a half. A column that is constant in the data, the terminal's too,
comes back as that constant.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, Gaussian, Spec, transitions
from reverie.data.blocks import Blocks
from reverie.data.fields import unflatten
from reverie.data.views import Transitions

PARTS = ("observations", "actions", "rewards", "next_observations", "terminals")


def fit(data: Dataset, standardise_terminals: bool = False) -> Spec:
    """Sizes, bounds, and a normaliser for every part of the data's transitions."""
    terminals = data.require_terminals()
    if standardise_terminals:
        return Spec.fit(data, **dict.fromkeys(PARTS, Gaussian))
    spec = Spec.fit(data, **dict.fromkeys(PARTS[:-1], Gaussian))
    constant = terminals.min() == terminals.max()
    mean, std = jnp.array([terminals[0] and constant]), jnp.array([not constant])
    raw = Gaussian(mean.astype(jnp.float32), std.astype(jnp.float32))
    return replace(spec, normalisers=spec.normalisers | {"terminals": raw})


def view(data: Dataset, spec: Spec) -> Transitions:
    """All transitions, the terminals too in network units."""
    rows = transitions(data, spec)
    return rows.joined({"terminals": spec.normalise("terminals", rows.rows["terminals"][:, None])[:, 0]})


def blocks(spec: Spec) -> Blocks:
    """The columns of each part."""
    s, a = spec.observation_dim, spec.action_dim
    return Blocks.of(observations=s, actions=a, rewards=None, next_observations=s, terminals=None)


def split(x: jax.Array, spec: Spec) -> dict[str, jax.Array]:
    """Generated vectors `[N, D]` as the parts in the data's units: rewards and (boolean) terminals `[N]`."""
    columns = blocks(spec)
    parts = {part: spec.denormalise(part, x[..., columns.slice(part)]) for part in PARTS}
    return parts | {
        "actions": jnp.clip(parts["actions"], spec.action_low, spec.action_high),
        "rewards": parts["rewards"][:, 0],
        "terminals": parts["terminals"][:, 0] > 0.5,
    }


def dataset(parts: dict[str, jax.Array], spec: Spec, rows: int, **attributes: Any) -> Dataset:
    """The first `rows` of `split`'s parts. Without `timeouts` each is an episode of its own: ended by a terminal, or
    else cut. Parts named "infos/NAME" are infos."""
    arrays = unflatten({part: np.asarray(values)[:rows] for part, values in parts.items()})
    arrays.setdefault("timeouts", ~arrays["terminals"])
    # An action that the data never varies, outside [-1, 1], has no bounds to declare.
    bounds: dict[str, Any] = {"action_low": spec.action_low, "action_high": spec.action_high}
    bounds = bounds if bool(jnp.all(spec.action_low < spec.action_high)) else {}
    return Dataset.from_arrays(**arrays, **bounds, attributes=attributes)
