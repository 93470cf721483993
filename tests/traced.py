"""What a function computes in every call, whatever its arguments: found in its traced program, nothing is compiled."""

from collections.abc import Callable, Iterator
from typing import Any

import jax


def marked(function: Callable) -> Callable:
    """The function, so that `always` finds it where it is traced."""

    def again(*given: Any, **options: Any) -> Any:
        jax.debug.callback(lambda: None)
        return function(*given, **options)

    return again


def always(function: Callable, *given: Any) -> bool:
    """Whether anything `marked` is computed in every call: outside of loops and of branches. What a branch computes is
    computed always once seeds are side by side, by `jax.vmap`."""
    return "debug_callback" in set(_outside(jax.make_jaxpr(function)(*given).jaxpr))


def _outside(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        yield name
        if name not in ("while", "cond"):
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_jaxpr):
                if _is_jaxpr(inner):
                    yield from _outside(getattr(inner, "jaxpr", inner))


def _is_jaxpr(x: Any) -> bool:
    return hasattr(x, "eqns")
