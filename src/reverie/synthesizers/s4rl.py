"""Random noise on the states (Sinha, Mandlekar & Garg 2021, "S4RL: Surprisingly Simple Self-Supervision").

S4RL-N, the simplest of the paper's augmentations, as data: rows of the data whose state and next state each have
Gaussian noise. The paper draws it anew in every update and averages Q over several draws; here every generated row has
noise of its own, and a method that trains on them is not changed. Nothing is learned but the scale of the states.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.checks import check_fields
from reverie.data import Dataset, Spec, concatenate, transitions
from reverie.synthesizers import transition


class State(eqx.Module):
    """There is nothing to learn."""

    step: jax.Array


@dataclass(frozen=True)
class S4RL:
    """S4RL: the data's transitions with a little noise on their states."""

    name: ClassVar = "s4rl"
    role: ClassVar = "synthesizer"
    paper: ClassVar = "Sinha et al. 2021"
    needs: ClassVar = ("rewards", "terminals")
    acting_fields: ClassVar = ("noise", "chunk")
    limits: ClassVar[dict[str, Any]] = {"noise": 0.0, "chunk": 1, "batch_size": 1}
    """The smallest value of the fields that have one."""

    noise: float = 3e-4
    """Deviation of the noise, in the observations' own deviations."""
    batch_size: int = 1
    """Rows an update looks at, for nothing: one update is enough."""
    chunk: int = 10_000
    """Rows generated, and kept on the disk, at a time. Another number makes other data."""

    def __post_init__(self):
        check_fields(self, self.limits)

    def prepare(self, data: Dataset):
        """All rows stay with the run."""
        data.require_rewards(), data.require_terminals()
        data = data.with_next_observations()
        spec, arrays = transition.fit(data), data.arrays()
        return transitions(data, spec), replace(
            spec, kept={name: jnp.asarray(arrays[name]) for name in transition.PARTS}
        )

    def init(self, key, spec: Spec) -> State:
        return State(jnp.zeros((), jnp.int32))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        return State(state.step + 1), {"noise": jnp.float32(self.noise)}

    def generate(self, state: State, spec: Spec, key, n: int) -> Dataset:
        """n transitions, each an episode of one step."""
        return concatenate(*self.chunks(state, spec, key, n))

    def chunks(self, state: State, spec: Spec, key, n: int, start: int = 0) -> Iterator[Dataset]:
        """Rows start, ..., n - 1 of `generate`; `start` is a multiple of `chunk`. Chunk i is a function of the rows and
        of `fold_in(key, i)` alone."""
        for first in range(start, n, self.chunk):
            rows = self.rows(spec, jax.random.fold_in(key, first // self.chunk))
            name = f"synthetic data by {self.name}"
            yield transition.dataset(rows, spec, min(self.chunk, n - first), name=name, synthetic=True)

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
