"""Which arrays of a state acting, or generating, reads: found in the traced program, the same way for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.interpreters import partial_eval

from reverie.data import Spec
from reverie.protocols import Actor, Computed, Synthesizer, Wishing
from reverie.training.inputs import blank_input, signals_of
from reverie.training.loop import state_shapes


def reads(algorithm: Any, spec: Spec) -> frozenset[int]:
    """The numbers of the state's leaves, in `jax.tree.leaves`, that acting reads, generating reads, or both, where a
    method does both. Nothing is compiled for it but what `reset` does.

    All leaves of a synthesizer that is not `Computed`, as what its host does with them cannot be seen, and of what
    neither acts nor generates.
    """
    leaves, structure = jax.tree.flatten(state_shapes(algorithm, spec, (0,)))
    leaves = [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves]
    if not isinstance(algorithm, Computed) and (isinstance(algorithm, Synthesizer) or not isinstance(algorithm, Actor)):
        return frozenset(range(len(leaves)))

    def used(function: Callable[[Any], Any]) -> Iterator[int]:
        jaxpr = jax.make_jaxpr(lambda leaves: function(jax.tree.unflatten(structure, leaves)))(leaves).jaxpr
        # As `jax.jit` itself finds arguments that it need not pass on; it looks into loops and branches.
        _, inputs = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
        return (number for number, read in enumerate(inputs) if read)

    found: set[int] = set()
    if isinstance(algorithm, Actor):
        carry = algorithm.reset(spec, 1, _wishes(algorithm, spec))
        seen = blank_input(algorithm, spec, 1)
        brought: Any = {name: np.zeros(1, np.float32) for name in signals_of(algorithm)}
        found |= set(used(lambda state: algorithm.act(state, spec, seen, carry, brought, jax.random.key(0))))
    if isinstance(algorithm, Computed):
        found |= set(used(lambda state: algorithm.computed(state, spec, jax.random.key(0))))
    return frozenset(found)


def names_of(algorithm: Any, spec: Spec) -> list[str]:
    """Where each of the state's leaves is, such as `actor.policy.params.layers[0].weight`."""
    places = jax.tree_util.tree_leaves_with_path(state_shapes(algorithm, spec, (0,)))
    return [jax.tree_util.keystr(place).lstrip(".") for place, _ in places]


def _wishes(algorithm: Any, spec: Spec) -> dict[str, np.ndarray]:
    """Any that will do: what they are has no part in what is read."""
    declared = algorithm.wishes(spec) if isinstance(algorithm, Wishing) else {}
    fixed = {
        name: not (wish.default is None or callable(wish.default) or wish.encode) for name, wish in declared.items()
    }
    known = {name: wish.default if fixed[name] else 0 for name, wish in declared.items()}
    return {
        name: np.broadcast_to(np.asarray(known[name], wish.dtype), (1, *wish.shape)) for name, wish in declared.items()
    }
