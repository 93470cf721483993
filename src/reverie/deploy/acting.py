"""One seed's way of acting as a function of arrays with names: what is exported, whatever the format.

`step` takes an observation, the feedback that the method reads and the carry, and gives the action and the new carry,
all of one environment. What has no part in any action is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from reverie.deploy.plain import plain
from reverie.training.inputs import blank_input, signals_of
from reverie.training.run import Run, check_acts
from reverie.version import __version__
from reverie.wishes import resolve

OBSERVATION, ACTION, KEY, CARRY, FEEDBACK = "observation", "action", "key", "carry", "feedback"
"""Names of arrays, or what they begin with: `observation/camera`, `feedback/reward`, `carry/3`."""
NEW = "new_"
"""What the names of the carry after a step begin with."""
FORMAT = 1


class ActingFunction(NamedTuple):
    """How one seed acts."""

    step: Callable[[dict[str, Any]], dict[str, Any]]
    """Arrays by name to arrays by name; pure."""
    inputs: dict[str, jax.ShapeDtypeStruct]
    """All that `step` takes: the observation, the feedback that is read, and the carry."""
    reset: dict[str, np.ndarray]
    """The carry before the first step, the key of seed 0."""
    about: dict[str, Any]
    """What a reader without Reverie must know, as JSON holds it."""


def acting_function(run: Run, seed: int | None = None) -> ActingFunction:
    """How a seed of the run (the first if None) acts in one environment, asked for what the run is asked for.

    Raises RunError where the algorithm does not act, or the seed was not trained, and ReverieError for a wish that must
    be told and is not.
    """
    check_acts(run)
    algorithm, spec, state = run.algorithm, run.spec, run.state(seed)
    asked = resolve(algorithm.name, run.wishes, run.asked, 1)
    own = jax.device_get(algorithm.reset(spec, 1, asked))
    blank: Any = blank_input(algorithm, spec, 1)
    seen = named(OBSERVATION, jax.tree.map(lambda each: np.zeros(each.shape[1:], each.dtype), blank))
    kept, structure = jax.tree.flatten(own)
    carry = {KEY: np.zeros(2, np.uint32)} | {f"{CARRY}/{i}": np.asarray(leaf) for i, leaf in enumerate(kept)}
    brought = {f"{FEEDBACK}/{name}": np.zeros((), np.float32) for name in signals_of(algorithm)}

    def step(given: Mapping[str, Any]) -> dict[str, Any]:
        # Keys as arrays of numbers, which every format has.
        key, now = jax.random.split(given[KEY])
        leaves = [given[f"{CARRY}/{i}"] for i in range(len(kept))]
        observation = jax.tree.unflatten(jax.tree.structure(blank), [given[name][None] for name in seen])
        feedback = {name: given[f"{FEEDBACK}/{name}"][None] for name in signals_of(algorithm)}
        action, new = algorithm.act(state, spec, observation, jax.tree.unflatten(structure, leaves), feedback, now)
        after = {KEY: key} | {f"{CARRY}/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(new))}
        return {ACTION: action[0]} | {NEW + name: each for name, each in after.items()}

    inputs = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in (seen | brought | carry).items()}
    step, inputs = lean(step, inputs, set(carry))
    reset = {name: array for name, array in carry.items() if name in inputs}
    return ActingFunction(step, inputs, reset, about(run, seed, step, inputs, reset))


def named(name: str, tree: Any) -> dict[str, Any]:
    """An array by its name, or a dictionary's by `name/entry`, in the order of `jax.tree.leaves`."""
    if not isinstance(tree, Mapping):
        return {name: tree}
    return {f"{name}/{entry}": tree[entry] for entry in sorted(tree)}


def lean(step: Callable, inputs: dict[str, Any], carry: set[str]) -> tuple[Callable, dict[str, Any]]:
    """The step and its inputs without what has no part in any action, such as the key of a method that draws nothing;
    the carry that no step changes, such as a wish, is among the inputs alone."""
    closed, outputs = jax.make_jaxpr(step, return_shape=True)(inputs)
    order, made = sorted(inputs), sorted(outputs)  # as dictionaries are flattened
    inlined = jax.make_jaxpr(plain(step))(inputs).jaxpr
    places = dict(zip(order, inlined.invars, strict=True))
    changed = {
        name for name, x in zip(made, inlined.outvars, strict=True) if x is not places.get(name.removeprefix(NEW))
    }
    wanted: set[str] = {ACTION}
    while True:
        jaxpr, used = partial_eval.dce_jaxpr(closed.jaxpr, [name in wanted for name in made])
        read = {name for name, each in zip(order, used, strict=True) if each}
        more = {NEW + name for name in read & carry} & changed
        if more <= wanted:
            break
        wanted |= more
    function = core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, closed.consts))

    def leaner(given: Mapping[str, Any]) -> dict[str, Any]:
        found = function(*(given[name] for name in order if name in read))
        return dict(zip((name for name in made if name in wanted), found, strict=True))

    return leaner, {name: each for name, each in inputs.items() if name in read}


def about(run: Run, seed: int | None, lean_step: Callable, inputs: Mapping[str, Any], reset: Mapping[str, Any]) -> dict:
    """For a reader without Reverie: names, shapes, types and units; the carry before the first step as base64 of its
    bytes, in C's order and little-endian; the outputs that are the next step's carry; and what it is of."""
    outputs = jax.eval_shape(lean_step, dict(inputs))
    low, high = (np.asarray(each, np.float64).tolist() for each in (run.spec.action_low, run.spec.action_high))
    return {
        "format": FORMAT,
        "method": run.algorithm.name,
        "inputs": {name: _described(name, each) for name, each in inputs.items()},
        "outputs": {name: _described(name.removeprefix(NEW), each) for name, each in outputs.items()},
        "carry": {name: NEW + name for name in reset if NEW + name in outputs},
        "reset": {name: base64.b64encode(np.ascontiguousarray(x).tobytes()).decode() for name, x in reset.items()},
        "action_low": low,
        "action_high": high,
        "asked": {name: np.asarray(value).tolist() for name, value in run.asked.items()},
        "changes": dict(run.changes),
        "seed": run.seeds[run.place(seed)],
        "step": run.step,
        "data": dict(run.data),
        "versions": {"reverie": __version__, "jax": jax.__version__},
    }


def _described(name: str, each: Any) -> dict[str, Any]:
    kind = name.split("/")[0]
    return {"shape": list(each.shape), "dtype": np.dtype(each.dtype).name, "unit": UNITS[kind]}


UNITS = {
    OBSERVATION: "of the data; images 0 to 255",
    FEEDBACK: "of the environment, of the last step",
    ACTION: "of the environment, from action_low to action_high",
    KEY: "the random key of JAX's threefry: 0 and the seed in the beginning",
    CARRY: "the method's own",
}
