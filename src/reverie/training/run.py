"""A finished (or interrupted) training: its states, policies and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reverie.catalogue import from_config
from reverie.data import Dataset, Spec, concatenate
from reverie.engines import Kind
from reverie.environments.goals import check_goal
from reverie.errors import ReverieError, RunError, undamaged
from reverie.protocols import Actor, Planning, Rewishing, Synthesizer, Wishing
from reverie.settings import acting_fields
from reverie.training import folder, generating, hub, release
from reverie.training.inputs import as_input, beside, check_feedback, notice, signals_of, takes_goal
from reverie.training.loop import state_shapes
from reverie.training.metrics import Table
from reverie.wishes import Wish, check_known, resolve


@dataclass(frozen=True, repr=False)
class Run:
    """What `fit` returns and `load` reads.

    states: the algorithm's state, every leaf with a leading axis [S] for the seeds.
    step: updates made.  seeds: the numbers of the seeds [S], as in the column `seed` of the metrics.
    path: the run's folder, or None.  data: the attributes of the data trained on (name, environment, ...).
    histories: what the seeds of an online training have collected, with a method `dataset()` each.
    asked: what the run is asked for when it acts, by `acting`.
    kept: of a run from a file, the numbers of the states' leaves that it has (the others are zeros): it acts or
        generates, and no training begins from it. None of a whole run.
    about: what was said of it when it was exported.
    """

    algorithm: Any
    spec: Any
    states: Any
    step: int
    seeds: tuple[int, ...]
    path: Path | None = None
    table: Table = field(default_factory=Table)
    data: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[tuple[str, Any], ...] = ()
    histories: tuple[Any, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    kept: frozenset[int] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        where = "" if self.path is None else f", in {str(self.path)!r}"
        return f"Run({self.name}, step {self.step}, seeds {', '.join(map(str, self.seeds))}{where})"

    @property
    def name(self) -> str:
        """The algorithm's name, and what `acting` changed."""
        changed = ", ".join(f"{field}={_said(value)}" for field, value in (*self.changes, *self.asked.items()))
        return self.algorithm.name + (f" ({changed})" if changed else "")

    @property
    def wishes(self) -> Mapping[str, Wish]:
        """What the trained method can be asked for when it acts, such as a target return."""
        return self.algorithm.wishes(self.spec) if isinstance(self.algorithm, Wishing) else {}

    def acting(self, **changes: Any) -> Run:
        """The same trained run that acts otherwise: with other values of the algorithm's fields that matter in acting
        only (candidates, guidance scale, solver and NFE), or asked for something, one of its `wishes`.

        A wish is one value for all environments, or one for each, `[n, ...]`. Raises RunError for another name, and for
        a value with which a run from a file would read what the file does not have.
        """
        fields, wishes = acting_fields(self.algorithm), self.wishes
        if unknown := [each for each in changes if each not in fields and each not in wishes]:
            raise RunError(
                f"{unknown[0]!r} is nothing that {self.algorithm.name} can change in acting; it can change "
                f"{', '.join((*fields, *wishes)) or 'nothing'}."
            )
        changed = {name: value for name, value in changes.items() if name in fields}
        asked = {name: value for name, value in changes.items() if name not in fields}
        merged = dict(self.changes) | changed
        algorithm = replace(self.algorithm, **changed)
        run = replace(self, algorithm=algorithm, changes=tuple(merged.items()), asked={**self.asked, **asked})
        if changed:
            release.check_reads(run, changed)
        return run

    def state(self, seed: int | None = None) -> Any:
        """The state of one seed (the first one when none is named). Raises RunError for a seed not trained."""
        at = self.place(seed)
        return jax.tree.map(lambda leaf: leaf[at], self.states)

    def place(self, seed: int | None = None) -> int:
        """Where the seed (the first one when none is named) is among the states. Raises RunError as `state`."""
        seed = self.seeds[0] if seed is None else seed
        if seed not in self.seeds:
            raise RunError(f"Seed {seed} is not in this run; it has {list(self.seeds)}.")
        return self.seeds.index(seed)

    def policy(self, seed: int | None = None) -> Policy:
        """How the trained seed acts. Raises RunError when the algorithm does not."""
        check_acts(self)
        return Policy(self.algorithm, self.spec, self.state(seed), self.asked, str(self.data.get("environment", "")))

    def generate(
        self,
        n: int,
        seed: int | None = None,
        key: int = 0,
        *,
        workers: int = 1,
        engine: Kind = "local",
        progress: bool = True,
    ) -> Dataset:
        """A Dataset of n steps made by the trained seed; another `key` makes other data. (`write` needs less memory.)

        `workers` processes make chunks of it side by side, on this machine or, with the engine "ray" (its extra), on
        the cluster that RAY_ADDRESS names; the rows are the same whatever their number. Its attributes say that it is
        synthetic, and all that it depends on. Raises RunError when the algorithm does not make data, or makes them in
        one process only.
        """
        generating.check_generates(self, n)
        together = generating.Workers(workers, engine)
        together.check(self)
        made = concatenate(*generating.chunks(self, n, seed, key, workers=together, progress=progress))
        return replace(made, attributes=generating.provenance(self, seed, key))

    def write(
        self,
        target: str,
        n: int,
        seed: int | None = None,
        key: int = 0,
        *,
        workers: int = 1,
        engine: Kind = "local",
        progress: bool = True,
    ) -> None:
        """Write the n steps of `generate` to `"d4rl:PATH.hdf5"` or `"parquet:FOLDER"`, one chunk in memory at a time,
        or to `"minari:ID"`.

        What is made for a file lies in `PATH.hdf5.part` until all is. A killed process leaves it, and the same call
        goes on from there; the result is the same, bit for bit. Raises RunError when the algorithm does not make data,
        and DataError where the target exists, cannot hold the data or lacks the room, and for the part of another
        call.
        """
        generating.write(self, target, n, seed, key, workers=generating.Workers(workers, engine), progress=progress)

    def export(self, path: str | Path, seed: int | None = None, half: bool = False, **about: Any) -> None:
        """Write one seed (the first if None) to one file that `load` reads, with the arrays that it reads as it acts
        or generates now; neither optimisers nor critics that it does not ask. `half` stores them as float16.

        about: plain values to be kept with it, such as the returns that were measured: `about` of the run loaded.
        Raises RunError where the file exists, for a seed not trained, and for what the file cannot hold.
        """
        release.write(self, path, seed, half, about)

    def metrics(self) -> dict[str, np.ndarray]:
        """The columns of metrics.csv: seed, step, the metrics, seconds, updates_per_second."""
        return self.table.as_columns()


def _said(value: Any) -> str:
    """A value in a run's name: of many numbers their shape alone."""
    return f"{list(np.shape(value))} numbers" if np.ndim(value) > 1 else str(value)


def check_acts(run: Run) -> None:
    """Raise RunError when the run's algorithm does not act."""
    if not isinstance(run.algorithm, Actor):
        does = "generates data and does not act" if isinstance(run.algorithm, Synthesizer) else "does not act"
        raise RunError(f"{run.algorithm.name} is a {run.algorithm.role}: it {does}.")


@dataclass(frozen=True)
class Policy:
    """One seed acting in one environment. Pure: all that changes is in the carry, the random key as well."""

    algorithm: Any
    spec: Any
    state: Any
    asked: Mapping[str, Any] = field(default_factory=dict)
    environment: str = ""
    """Of the data that it was trained on: goals in its walls are refused."""

    def reset(self, seed: int = 0, **wishes: Any) -> Any:
        """The carry before the first step of an episode, in which `wishes` are asked for, such as a target return."""
        asked = resolve(self.algorithm.name, self.wishes, {**self.asked, **wishes}, 1)
        return beside(self.state, (jax.random.key(seed), self.algorithm.reset(self.spec, 1, asked)))

    def act(self, observation: Any, carry: Any, feedback: Mapping[str, float] | None = None) -> tuple[np.ndarray, Any]:
        """The action [act], in the environment's units, for one observation [obs] or a dict of such.

        feedback: what the last step brought, "reward", "cost" and the method's `signals`; 0 where it is not given.
        Methods that follow what they have received, such as a return to go, need it.

        Raises ReverieError for an observation unlike those of the training, for a goal of another size or in a wall of
        the maze of the training's data, and for a feedback of another name.
        """
        seen, brought = self.inputs(observation, feedback)
        action, carry = self.step(self.arrays, carry, seen, brought)
        notice(self.algorithm, carry[1])
        if action.shape != (1, *self.spec.action.shape):
            raise ReverieError(
                f"{self.algorithm.name}'s act gave actions of shape {list(action.shape)} for one environment; they "
                f"must have {[1, *self.spec.action.shape]}."
            )
        return np.asarray(action)[0], carry

    def inputs(self, observation: Any, feedback: Mapping[str, float] | None = None) -> tuple[Any, dict[str, Any]]:
        """What `step` takes of an observation and a feedback, `[1, ...]` each. Raises ReverieError as `act`."""
        brought = self._nothing
        if feedback:
            check_feedback(self.algorithm, feedback)
            brought = brought | {name: np.array([value], np.float32) for name, value in feedback.items()}
        seen = as_input(self.algorithm, self.spec, observation)
        if takes_goal(self.algorithm, self.spec):
            check_goal(self.environment, seen["desired_goal"])
        return seen[None] if isinstance(seen, np.ndarray) else {
            name: part[None] for name, part in seen.items()
        }, brought

    def planned(self, observation: Any, carry: Any) -> np.ndarray | None:
        """What the carry's plan has of observations after acting on this one, in its units: `[T, obs]`, or
        their first columns, from where it begins. None of a method that keeps no plan of observations."""
        if not isinstance(self.algorithm, Planning):
            return None
        seen, _ = self.inputs(observation)
        return np.asarray(self.algorithm.planned(self.spec, seen, carry[1])[0])

    def rewish(self, carry: Any, **wishes: Any) -> Any:
        """The carry once other things are asked for, in the middle of an episode.

        Raises ReverieError for what it cannot be asked for, and where the method has no `rewish`.
        """
        name = self.algorithm.name
        if not isinstance(self.algorithm, Rewishing):
            raise ReverieError(f"{name} cannot change its wishes in the middle of an episode; ask in reset.")
        key, own = carry
        check_known(name, self.wishes, wishes)
        asked = resolve(name, {each: self.wishes[each] for each in wishes}, wishes, 1)
        return key, beside(self.state, self.algorithm.rewish(own, asked))

    @cached_property
    def wishes(self) -> Mapping[str, Wish]:
        """What it can be asked for in `reset`."""
        return self.algorithm.wishes(self.spec) if isinstance(self.algorithm, Wishing) else {}

    # A call takes apart what it is given. A state is hundreds of modules, and a list of their arrays is one: the host's
    # part of an action falls from 0.6 to 0.2 ms.
    @cached_property
    def arrays(self) -> list[jax.Array]:
        """Of the state and the specification, as `step` takes them."""
        return jax.tree.leaves((self.state, self.spec))

    @cached_property
    def _nothing(self) -> dict[str, Any]:
        """The feedback of a step that brought nothing."""
        return {name: np.zeros(1, np.float32) for name in signals_of(self.algorithm)}

    @cached_property
    def step(self) -> Callable:
        """`(arrays, carry, *inputs) -> (action [1, act], carry)`, compiled; can be a part of another program."""
        return _compiled(self.algorithm, jax.tree.structure((self.state, self.spec)))


@lru_cache(maxsize=64)
def _compiled(algorithm: Any, structure: Any) -> Callable:
    """The same function for all policies of a kind, so that it is compiled once."""

    @jax.jit
    def act(arrays: list[jax.Array], carry: Any, observation: Any, feedback: Any) -> tuple[jax.Array, Any]:
        state, spec = jax.tree.unflatten(structure, arrays)
        key, own = carry
        key, now = jax.random.split(key)
        action, own = algorithm.act(state, spec, observation, own, feedback, now)
        return action, (key, own)

    return act


def load(path: str | Path) -> Run:
    """The run in a folder as of its last checkpoint, or in a file of `Run.export`, which acts or generates; or such a
    file on a model hub, `"hf:USER/NAME"` (the extra `hub`).

    An algorithm of one's own is imported from where it was trained, `module:Class`. Raises RunError when the folder
    holds no run, none of its checkpoints is complete yet, or it was written by a version whose settings are others; and
    for a file of another kind.
    """
    path = hub.fetched(str(path)) if str(path).startswith(hub.HUB) else Path(path)
    with undamaged(f"The run in {str(path)!r}", RunError):
        return Run(**release.read(path)) if path.is_file() else _of_folder(path)


def _of_folder(path: Path) -> Run:
    config = folder.read_config(path)
    algorithm, seeds = (
        from_config(config["algorithm"], config["versions"]["reverie"]),
        tuple(config["training"]["seeds"]),
    )
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
