"""A finished (or interrupted) training: its states, policies and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from reverie.errors import RunError
from reverie.training import folder, generating
from reverie.training.loop import initial_states, seed_keys
from reverie.training.metrics import Table

if TYPE_CHECKING:
    from reverie.data import Dataset


@dataclass(frozen=True)
class Run:
    """What `fit` returns and `load` reads.

    states: the algorithm's state, every leaf with a leading axis [S] for the seeds.
    step: updates made.  seeds: the numbers of the seeds [S], as in the column `seed` of the metrics.
    path: the run's folder, or None.  data: the attributes of the data trained on (name, environment, ...).
    histories: what the seeds of an online training have gathered, with a method `dataset()` each.
    """

    algorithm: Any
    spec: Any
    states: Any
    step: int
    seeds: tuple[int, ...]
    path: Path | None = None
    table: Table = field(default_factory=Table, repr=False)
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    changes: tuple[tuple[str, Any], ...] = ()
    histories: tuple[Any, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The algorithm's name, and what `acting` changed."""
        changed = ", ".join(f"{field}={value}" for field, value in self.changes)
        return self.algorithm.name + (f" ({changed})" if changed else "")

    def acting(self, **changes: Any) -> Run:
        """The same trained run with fields changed that matter in acting only, its algorithm's `acting_fields`, such
        as the number of candidates, the guidance scale, the solver and its calls. Raises RunError for another."""
        known = getattr(self.algorithm, "acting_fields", ())
        if unknown := [each for each in changes if each not in known]:
            raise RunError(
                f"{unknown[0]!r} is nothing that {self.algorithm.name} can change in acting; it can change "
                f"{', '.join(known) or 'nothing'}."
            )
        merged = dict(self.changes) | changes
        return replace(self, algorithm=replace(self.algorithm, **changes), changes=tuple(merged.items()))

    def state(self, seed: int | None = None) -> Any:
        """The state of one seed (the first one when none is named). Raises RunError for a seed not trained."""
        seed = self.seeds[0] if seed is None else seed
        if seed not in self.seeds:
            raise RunError(f"Seed {seed} is not in this run; it has {list(self.seeds)}.")
        at = self.seeds.index(seed)
        return jax.tree.map(lambda leaf: leaf[at], self.states)

    def policy(self, seed: int | None = None) -> Policy:
        """How the trained seed acts. Raises RunError when the algorithm makes data instead."""
        if not hasattr(self.algorithm, "act"):
            raise RunError(f"{self.algorithm.name} is a {self.algorithm.role}: it generates data and does not act.")
        return Policy(self.algorithm, self.spec, self.state(seed))

    def generate(self, n: int, seed: int | None = None, key: int = 0, *, progress: bool = True) -> Dataset:
        """A Dataset of n steps made by the trained seed; another `key` makes other data. (`write` needs less memory.)

        Its attributes say that it is synthetic, and all that it depends on. Raises RunError when the algorithm does
        not make data.
        """
        from reverie.data import concatenate

        generating.check_generates(self, n)
        made = concatenate(*generating.chunks(self, n, seed, key, progress=progress))
        return replace(made, attributes=generating.provenance(self, seed, key))

    def write(self, target: str, n: int, seed: int | None = None, key: int = 0, *, progress: bool = True) -> None:
        """Write the n steps of `generate` to `"d4rl:PATH.hdf5"`, one chunk in memory at a time, or `"minari:ID"`.

        What is made lies in `PATH.hdf5.part` until all is. A killed process leaves it, and the same call goes on from
        there; the result is the same, bit for bit. Raises RunError when the algorithm does not make data, and
        DataError where the target exists, cannot hold the data or lacks the room, and for the part of another call.
        """
        generating.write(self, target, n, seed, key, progress=progress)

    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of metrics.csv: seed, step, the metrics, seconds, updates_per_second."""
        return self.table.as_columns()


@dataclass(frozen=True)
class Policy:
    """One seed acting in one environment. Pure: all that changes is in the carry, the random key as well."""

    algorithm: Any
    spec: Any
    state: Any

    def reset(self, seed: int = 0) -> Any:
        """The carry before the first step of an episode."""
        return jax.random.key(seed), self.algorithm.reset(self.spec, 1)

    def act(self, observation: Any, carry: Any) -> tuple[np.ndarray, Any]:
        """The action [act], in the environment's units, for one observation [obs] or a dict of such."""
        batched = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32)[None], observation)
        action, carry = self._step(self._arrays, carry, batched)
        return np.asarray(action)[0], carry

    # A call takes apart what it is given. A state is hundreds of modules, and a list of their arrays is one: the host's
    # part of an action falls from 0.6 to 0.2 ms.
    @cached_property
    def _arrays(self) -> list[jax.Array]:
        return jax.tree.leaves((self.state, self.spec))

    @cached_property
    def _step(self) -> Callable:
        return _compiled(self.algorithm, jax.tree.structure((self.state, self.spec)))


@lru_cache(maxsize=64)
def _compiled(algorithm: Any, structure: Any) -> Callable:
    """The same function for all policies of a kind, so that it is compiled once."""

    @jax.jit
    def act(arrays: list[jax.Array], carry: Any, observation: Any) -> tuple[jax.Array, Any]:
        state, spec = jax.tree.unflatten(structure, arrays)
        key, own = carry
        key, now = jax.random.split(key)
        action, own = algorithm.act(state, spec, own, observation, now)
        return action, (key, own)

    return act


def load(path: str | Path) -> Run:
    """The run in a folder as of its last checkpoint.

    An algorithm that is not reverie's must be in `reverie.catalogue.ALGORITHMS` first. Raises RunError when the
    folder holds no run, or none of its checkpoints is complete yet.
    """
    from reverie.catalogue import from_config
    from reverie.data.spec import Spec

    path = Path(path)
    config = folder.read_config(path)
    algorithm, seeds = from_config(config["algorithm"]), tuple(config["training"]["seeds"])
    spec = Spec.load(path / folder.SPEC)
    checkpoints = folder.Checkpoints(path)
    step = checkpoints.latest()
    if step is None:
        raise RunError(f"The run in {str(path)!r} has no checkpoint yet; resume it or wait for its first one.")
    states = checkpoints.restore(step, state_shapes(algorithm, spec, seeds))
    checkpoints.close()
    table = Table(path / folder.METRICS)
    table.keep_until(step)
    data = config["data"].get("attributes", {})
    return Run(algorithm, spec, jax.device_put(states), step, seeds, path, table, data)


def state_shapes(algorithm: Any, spec: Any, seeds: tuple[int, ...]) -> Any:
    """Structure, shapes and types of the states of all seeds, at no cost."""
    return jax.eval_shape(partial(initial_states, algorithm), seed_keys(seeds), spec)
