"""Random noise on the states (Sinha, Mandlekar & Garg 2021, "S4RL: Surprisingly Simple Self-Supervision").

S4RL-N, the simplest of the paper's augmentations, as data: rows of the data whose state and next state each have
Gaussian noise. The paper draws it anew in every update and averages Q over several draws; here every generated row has
noise of its own, and a method that trains on them is not changed. Nothing is learned but the scale of the states.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Dataset, Spec, transitions
from reverie.settings import Acting, Count, NonNegative
from reverie.synthesizers import transition
from reverie.synthesizers.chunked import Chunked


class State(eqx.Module):
    """There is nothing to learn."""

    step: jax.Array


@dataclass(frozen=True)
class S4RL(Chunked):
    """S4RL: the data's transitions with a little noise on their states."""

    name: ClassVar = "s4rl"
    paper: ClassVar = "Sinha et al. 2021"

    noise: Acting[NonNegative] = 3e-4
    """Standard deviation of the noise, in the observations' own."""
    batch_size: Count = 1
    """Rows an update looks at, for nothing: one update is enough."""
    chunk: Acting[Count] = 10_000
    """Rows generated, and kept on the disk, at a time. Another number makes other data."""

    def prepare(self, data: Dataset, spec: Spec | None = None):
        """All rows stay with the run."""
        data.require_rewards(), data.require_terminals()
        data = data.with_next_observations()
        spec, arrays = spec or transition.fit(data), data.arrays()
        return transitions(data, spec), replace(
            spec, kept={name: jnp.asarray(arrays[name]) for name in transition.PARTS}
        )

    def init(self, key, spec: Spec) -> State:
        return State(jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        return State(state.step + 1), {"noise": jnp.float32(self.noise)}

    def chunk_rows(self, ready, spec: Spec, key, rows: int):
        return self.rows(spec, key)

    def computed(self, state: State, spec: Spec, key):
        return self.rows(spec, key)

    @partial(jax.jit, static_argnums=0)
    def rows(self, spec: Spec, key) -> dict[str, jax.Array]:
        """A chunk of transitions, in the data's units."""
        draw, *keys = jax.random.split(key, 3)
        index = jax.random.randint(draw, (self.chunk,), 0, len(spec.kept["actions"]))
        rows = {name: each[index] for name, each in spec.kept.items()}
        units: Any = spec.normalisers["observations"]
        for name, each in zip(("observations", "next_observations"), keys, strict=True):
            rows[name] = rows[name] + self.noise * units.std * jax.random.normal(each, rows[name].shape)
        return rows
