"""Barriers: functions b of one state, in the data's units, that plans are to keep at b >= 0.

Those here are distances: 1-Lipschitz, convex, and steep everywhere, so that their linearisation neither overshoots nor
fails at a centre. One's own is any differentiable function of a state, `module:function` on the command line.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from reverie.errors import ReverieError
from reverie.paths import imported

Function = Callable[[jax.Array, jax.Array], jax.Array]
"""(a state `[d]`, parameters `[p]`) -> b, a number."""


class Barrier(NamedTuple):
    """A kind of barrier."""

    function: Function
    parameters: tuple[str, ...] = ()
    """Names of the numbers that it is told when it acts."""
    help: str = ""


class Kind(NamedTuple):
    """A kind of barrier, and how many of it there are."""

    name: str
    barrier: Barrier
    number: int


def _offset(state, centre):
    """From the centre; a millionth beside it where it is in it, so that there is a way out."""
    offset = state[:2] - centre
    return offset + jnp.where(jnp.abs(offset).max() < 1e-6, jnp.array([1e-6, 0.0]), 0.0)


def disc(state, parameters):
    """Outside of a disc of the first two columns: the distance from it."""
    return jnp.sqrt(jnp.square(_offset(state, parameters[:2])).sum()) - parameters[2]


def ellipse(state, parameters):
    """Outside of the super-ellipse |x/a|^4 + |y/b|^4 = 1 about a centre (Xiao et al. 2023): no more than
    the distance from it."""
    axes = jnp.maximum(parameters[2:], 1e-6)
    ratio = _offset(state, parameters[:2]) / axes
    largest = jax.lax.stop_gradient(jnp.abs(ratio).max())  # else the fourth power of little is 0
    return axes.min() * (largest * ((ratio / largest) ** 4).sum() ** 0.25 - 1)


def half_plane(state, parameters):
    """Where the normal's product with the first two columns is at least so much."""
    return (parameters[:2] * state[:2]).sum() - parameters[2]


def upper(entry: int) -> Function:
    """One entry at most so much."""
    return lambda state, parameters: parameters[0] - state[entry]


def lower(entry: int) -> Function:
    """One entry at least so much."""
    return lambda state, parameters: state[entry] - parameters[0]


BARRIERS = {
    "disc": Barrier(disc, ("x", "y", "radius"), "outside of a disc"),
    "ellipse": Barrier(ellipse, ("x", "y", "a", "b"), "outside of a super-ellipse with these semi-axes"),
    "half-plane": Barrier(half_plane, ("nx", "ny", "offset"), "nx x + ny y >= offset"),
}
BOUNDS = {"upper": upper, "lower": lower}


def find_barrier(name: str | Callable) -> Barrier:
    """Of `BARRIERS`, a bound on one entry of the state (`upper:3`), or one's own: a function of a state or its
    `module:function`, for which the working directory counts. Raises ReverieError for anything else."""
    if callable(name):
        return Barrier(lambda state, _: name(state))
    if name in BARRIERS:
        return BARRIERS[name]
    kind, _, entry = name.partition(":")
    if kind in BOUNDS and entry.isdecimal():
        word = "at most" if kind == "upper" else "at least"
        return Barrier(BOUNDS[kind](int(entry)), ("limit",), f"entry {entry} of the state {word} this")
    known = f"{', '.join(BARRIERS)}, upper:ENTRY, lower:ENTRY"
    if ":" not in name:
        raise ReverieError(f"The barrier {name!r} is unknown; choose one of {known}, or module:function of your own.")
    try:
        function = imported(kind, entry)
    except (ImportError, ValueError, AttributeError) as error:
        raise ReverieError(
            f"The barrier {name!r} cannot be imported ({error}); give module:function of a state, or one of {known}."
        ) from error
    if not callable(function):
        raise ReverieError(f"The barrier {name!r} is {type(function).__name__}; give a function of a state.")
    return Barrier(lambda state, _: function(state))


def kinds_of(names: Sequence[str | Callable]) -> tuple[Kind, ...]:
    """The barriers by kind, in the order in which each comes first; raises ReverieError as `find_barrier`."""
    counts: dict[Any, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return tuple(
        Kind(getattr(name, "__name__", "barrier") if callable(name) else name, find_barrier(name), count)
        for name, count in counts.items()
    )


def values_and_normals(
    kinds: Sequence[Kind], states_of: Callable, told: Mapping[str, jax.Array], rows
) -> tuple[jax.Array, jax.Array]:
    """Of rows `[n, ..., D]` in network units all barriers' values `[n, ..., K]`, and their gradients by the rows,
    `[n, ..., K, D]`, zero where there is none.

    states_of: rows `[..., D]` -> states `[..., d]` in the data's units. told: by kind the parameters `[n, number, p]`.
    """
    found = []
    for name, barrier, number in kinds:

        def at(row, parameters, function=barrier.function):
            return jnp.asarray(function(states_of(row), parameters), jnp.float32)

        parameters = told[name] if barrier.parameters else jnp.zeros((len(rows), number, 0))
        each = jax.vmap(jax.value_and_grad(at), (None, 0))
        for _ in rows.shape[1:-1]:
            each = jax.vmap(each, (0, None))
        found.append(jax.vmap(each)(rows, parameters))
    values, normals = (
        jnp.concatenate(parts, axis) for parts, axis in zip(zip(*found, strict=True), (-1, -2), strict=True)
    )
    return values, jnp.where(jnp.isfinite(normals).all(-1, keepdims=True), normals, 0.0)


__all__ = ["BARRIERS", "Barrier", "Kind", "find_barrier", "kinds_of", "values_and_normals"]
