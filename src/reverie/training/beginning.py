"""What a training begins with: fresh states, or those of another run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reverie.data import Dataset, Spec
from reverie.data.fields import Field, Space, describe, field_of
from reverie.data.streaming import Streamed
from reverie.errors import RunError
from reverie.learning import Optimised
from reverie.protocols import Successor, Tuner
from reverie.training import folder, loop, streaming
from reverie.training.run import Run, load


def provenance(run: Run | None) -> dict[str, Any] | None:
    """Of the run that a training begins from, for config.json."""
    if run is None:
        return None
    return {"algorithm": run.algorithm.name, "step": run.step, "path": None if run.path is None else str(run.path)}


def recorded(path: Path, config: dict[str, Any]) -> Run | None:
    """The run that the one in the folder began from, if it is needed still: where that has no checkpoint of its own.

    Raises RunError where it had no folder."""
    begun_from = config.get("initial")
    if not begun_from or folder.holds_run(path):
        return None
    if begun_from["path"] is None:
        raise RunError(
            f"The run in {str(path)!r} has no checkpoint yet and began from a run without a folder; train again with "
            "initial=."
        )
    return load(begun_from["path"])


def prepared(
    algorithm: Any,
    data: Dataset | Streamed,
    spec: Spec | None,
    run: Run | None,
    mesh: Mesh | None = None,
    shard: bool = False,
) -> tuple[Any, Spec]:
    """View (of a stream its `Feed`) and specification; with the units of `spec`, or of a run whose networks go on
    learning, where there is one.

    They must see the data in the units that they know. Raises RunError where the run's observations or actions are
    others than the data's.
    """

    def prepare(spec: Spec | None = None) -> tuple[Any, Spec]:
        if isinstance(data, Streamed):
            return streaming.prepared(algorithm, data, spec, mesh, shard)
        return algorithm.prepare(data) if spec is None else algorithm.prepare(data, spec)

    if spec is None and run is not None and goes_on(algorithm, run):
        check_spaces(run, data.observation_space, data.action_space, "the data")
        # What needs no rewards has no units of them.
        own = tunes(algorithm, run) and "rewards" in algorithm.needs
        spec = with_rewards_of(run.spec, prepare()[1]) if own else run.spec
    return prepare(spec)


def tunes(algorithm: Any, run: Run) -> bool:
    """Whether the algorithm goes on with a network of another method's run, and has values and all else anew: its
    rewards are in units of its own."""
    return isinstance(algorithm, Tuner) and not _same(algorithm, run)


def with_rewards_of(spec: Spec, own: Spec) -> Spec:
    """The specification with the rewards in units of `own`; as they come where that has none."""
    others = {name: each for name, each in spec.normalisers.items() if name != "rewards"}
    rewards = {name: each for name, each in own.normalisers.items() if name == "rewards"}
    return replace(spec, normalisers=others | rewards)


def goes_on(algorithm: Any, run: Run) -> bool:
    """Whether the run's own networks act and learn from the first step on: of the same method's, and of a `Tuner`'s."""
    return _same(algorithm, run) or isinstance(algorithm, Tuner)


def check_spaces(run: Run, observations: Space, actions: Field, where: str) -> None:
    """Raise RunError where the run to begin from has other observations or actions than those `where` it would learn:
    those of a data set or of an environment."""
    check_alike("run to begin from", run.spec.observation_space, run.spec.action, observations, actions, where)


def check_data(data: Dataset, observations: Space, low: np.ndarray, high: np.ndarray, where: str) -> None:
    """Raise RunError where the data have other observations or actions than the environment, or others of their
    bounds."""
    check_alike("data set", data.observation_space, data.action_space, observations, field_of(low[None]), where)
    for what, known, found in (("least", data.action_low, low), ("largest", data.action_high, high)):
        if known is not None and not np.allclose(known, found):
            raise RunError(
                f"The {what} action of the data set is {known.tolist()}, and that of {where} {found.tolist()}; give "
                "data of the same task, with its bounds (action_low=, action_high=)."
            )


def check_alike(what: str, seen: Space, done: Field, observations: Space, actions: Field, where: str) -> None:
    """Raise RunError where a run or data set, `what`, has other observations or actions than those `where`."""
    for name, known, found in (("observations", seen, observations), ("actions", done, actions)):
        if known != found:
            raise RunError(
                f"The {what} has {name} that are {describe(known)}, and those of {where} are {describe(found)}; give "
                "one of the same."
            )


def states(algorithm: Any, spec: Spec, seeds: tuple[int, ...], run: Run | None) -> Any:
    """Before the first update, leaves `[S, ...]`: with the parameters of the run where it is of the same method, and
    optimisers and counters that begin anew. Raises RunError where the run cannot be begun from."""
    name = algorithm.name
    if run is None:
        if isinstance(algorithm, Tuner):
            raise RunError(f"{name} begins from {algorithm.begins_from}; give it by initial= (--initial).")
        return loop.initial_states(algorithm, loop.each_seed(seeds), spec)
    before = _one_each(run, len(seeds))
    if not _same(algorithm, run):
        if not isinstance(algorithm, Successor):
            raise RunError(
                f"{algorithm.name} cannot begin from a run of {run.algorithm.name}; give a run of {algorithm.name}."
            )
        first = jax.jit(lambda key, state: algorithm.init_from(jax.random.fold_in(key, 0), spec, run, state))
        each = [first(key, state) for key, state in zip(loop.each_seed(seeds).key, before, strict=True)]
        _check_as_begun(algorithm, spec, each[0])
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    fresh = loop.initial_states(algorithm, loop.each_seed(seeds), spec)
    return grafted(algorithm.name, fresh, jax.tree.map(lambda *leaves: jnp.stack(leaves), *before))


def grafted(name: str, fresh: Any, found: Any) -> Any:
    """The states `fresh` with what `found`, another of its method, has learned: its parameters, and all else that is of
    floats, such as their averages. Optimisers (their moments and rates' schedules) and counters are those of `fresh`.

    Raises RunError where parameters have other sizes.
    """
    nodes, structure = jax.tree.flatten(fresh, is_leaf=_is_optimised)
    others = jax.tree.leaves(found, is_leaf=_is_optimised)
    if _sizes(nodes) != _sizes(others):
        raise _other_sizes(name, *(jax.tree.map(lambda leaf: leaf[0], each) for each in (fresh, found)))
    return jax.tree.unflatten(structure, map(_graft, nodes, others))


def _other_sizes(name: str, fresh: Any, found: Any) -> RunError:
    """That says the first parameter which differs, and both of its shapes."""
    mine, theirs = (_shapes_by_path(each) for each in (fresh, found))
    path = next((path for path in theirs | mine if mine.get(path) != theirs.get(path)), None)
    which = "" if path is None else f" ({path} is {theirs.get(path, 'not there')}, not {mine.get(path, 'there')})"
    return RunError(
        f"The parameters of the run to begin from have other sizes than those of this {name}{which}; give it that "
        "run's settings of the networks."
    )


def _shapes_by_path(state: Any) -> dict[str, list[int]]:
    """Of a state's leaves but for the optimisers' own."""
    learned = jax.tree.map(lambda node: node.params if _is_optimised(node) else node, state, is_leaf=_is_optimised)
    return {jax.tree_util.keystr(path): list(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(learned)}


def _check_as_begun(algorithm: Any, spec: Spec, state: Any) -> None:
    """Raise RunError where what a successor made of another run is no state that it would begin with by itself: it
    could not be gone on with from a checkpoint."""
    shapes = loop.state_shapes(algorithm, spec, (0,))
    fresh = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes)
    (leaves, structure), (found, other) = jax.tree.flatten(fresh), jax.tree.flatten(state)
    if str(other) != str(structure) or [jnp.shape(leaf) for leaf in found] != [leaf.shape for leaf in leaves]:
        raise _other_sizes(algorithm.name, fresh, state)


def _graft(fresh: Any, found: Any) -> Any:
    if _is_optimised(fresh):
        params = jax.tree.unflatten(jax.tree.structure(fresh.params), jax.tree.leaves(found.params))
        return type(fresh)(params, fresh.moments)
    return found if _learned(fresh) else fresh


def _is_optimised(node: Any) -> bool:
    return isinstance(node, Optimised)


def _learned(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _sizes(nodes: list[Any]) -> list[Any]:
    """The shapes of what is taken over, a list for each set of parameters; None for a counter."""
    return [
        [leaf.shape for leaf in jax.tree.leaves(node.params)]
        if _is_optimised(node)
        else node.shape
        if _learned(node)
        else None
        for node in nodes
    ]


def _same(algorithm: Any, run: Run) -> bool:
    return type(algorithm) is type(run.algorithm)


def _one_each(run: Run, seeds: int) -> list[Any]:
    """The run's states, one a seed: its only one for all, or each for its own."""
    if len(run.seeds) not in (1, seeds):
        raise RunError(
            f"The run to begin from has {len(run.seeds)} seeds and this training {seeds}; give 1 or as many."
        )
    states = [run.state(seed) for seed in run.seeds]
    return states * seeds if len(states) == 1 else states
