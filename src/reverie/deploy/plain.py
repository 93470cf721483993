"""A function without JAX's random primitives: threefry's own shifts, sums and exclusive-ors in their place.

The numbers are the same, bit for bit. Other runtimes have no generator of these numbers, and theirs would give others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jax.extend.random import threefry_prng_impl as threefry

_POWERS = np.array([0, *2.0 ** np.arange(-126, 128), np.inf], np.float32)
POWERS = np.concatenate([_POWERS, -_POWERS])
"""Of two, by the nine bits of sign and exponent of a float32."""
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
TURNS = np.array([(*ROTATIONS[turn % 2], turn + 1) for turn in range(5)], np.uint32)
"""Of threefry: how far four rounds rotate, and what is added to the counter after them."""


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of the same pytrees; keys are to be raw, uint32 `[2]`."""

    def wrapped(*arguments: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        found = evaluate(closed, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shape), found)

    return wrapped


def evaluate(closed: core.ClosedJaxpr, *arguments: Any) -> list[Any]:
    values: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, map(raw, closed.consts), strict=True))
    values |= zip(closed.jaxpr.invars, arguments, strict=True)
    for eqn in closed.jaxpr.eqns:
        given = [literal(x) if isinstance(x, core.Literal) else values[x] for x in eqn.invars]
        rule = RULES.get(eqn.primitive.name, bound)
        found = rule(eqn, *given)
        values |= zip(eqn.outvars, found, strict=True)
    return [literal(x) if isinstance(x, core.Literal) else values[x] for x in closed.jaxpr.outvars]


def literal(x: core.Literal) -> Any:
    """A number with its type, which older versions of JAX keep beside it."""
    return raw(x.val) if hasattr(x.val, "dtype") else np.asarray(x.val, x.aval.dtype)  # type: ignore[attr-defined]


def raw(constant: Any) -> Any:
    """A key as its numbers."""
    return jax.random.key_data(constant) if is_key(constant) else constant


def is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def bound(eqn: Any, *given: Any) -> Sequence[Any]:
    """As it is; of keys, whose two numbers are an axis of their own here, for each of the two."""
    bind = partial(eqn.primitive.bind, **eqn.params)
    axes = [-1 if is_key(x.aval) else None for x in eqn.invars]
    found = jax.vmap(bind, axes, -1)(*given) if -1 in axes else bind(*given)
    return found if eqn.primitive.multiple_results else [found]


def inlined(name: str) -> Callable:
    def rule(eqn: Any, *given: Any) -> Sequence[Any]:
        inner = eqn.params[name]
        return evaluate(inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ()), *given)

    return rule


def signed(values: Any) -> list[Any]:
    """Unsigned numbers as int32 of the same bits: the converter gives that type to whole numbers that leave a loop."""
    return [lax.convert_element_type(x, np.int32) if x.dtype == np.uint32 else x for x in values]


def typed(values: Any, like: Any) -> list[Any]:
    """What `signed` was given, of values of these types."""
    return [lax.convert_element_type(x, each.dtype) for x, each in zip(values, like, strict=True)]


def scanned(body: Callable, first: Sequence[Any], rows: Sequence[Any], **how: Any) -> list[Any]:
    """`lax.scan` of lists, and its last carry and outputs in one; `body` gives such a one as well."""
    outputs = jax.eval_shape(body, list(first), [x[0] for x in rows])

    def signed_body(carry: Any, row: Any) -> Any:
        found = signed(body(typed(carry, first), row))
        return found[: len(first)], found[len(first) :]

    last, out = lax.scan(signed_body, signed(first), list(rows), **how)
    return typed([*last, *out], outputs)


def scan(eqn: Any, *given: Any) -> Sequence[Any]:
    p = eqn.params
    start, rows = p["num_consts"], p["num_consts"] + p["num_carry"]
    return scanned(
        lambda carry, row: evaluate(p["jaxpr"], *given[:start], *carry, *row),
        *(given[start:rows], given[rows:]),
        **{name: p[name] for name in ("length", "reverse", "unroll")},
    )


def loop(eqn: Any, *given: Any) -> Sequence[Any]:
    p = eqn.params
    a, b = p["cond_nconsts"], p["body_nconsts"]
    asks, does, first = given[:a], given[a : a + b], list(given[a + b :])
    return lax.while_loop(
        lambda x: evaluate(p["cond_jaxpr"], *asks, *x)[0], lambda x: evaluate(p["body_jaxpr"], *does, *x), first
    )


def branch(eqn: Any, which: Any, *given: Any) -> Sequence[Any]:
    branches = [partial(evaluate, each) for each in eqn.params["branches"]]
    return lax.switch(which, branches, *given)


def selected(eqn: Any, which: Any, *cases: Any) -> Sequence[Any]:
    """Of two truths by logic, and of two unsigned numbers as int32: ONNX Runtime chooses among neither itself."""
    kind = np.dtype(cases[0].dtype)
    if which.dtype != np.bool_ or len(cases) != 2 or kind not in (np.dtype(bool), np.dtype(np.uint32)):
        return bound(eqn, which, *cases)
    which = jnp.broadcast_to(which, cases[0].shape)
    if kind == np.dtype(np.uint32):
        return typed([lax.select_n(which, *signed(cases))], cases[:1])
    return [lax.bitwise_or(lax.bitwise_and(lax.bitwise_not(which), cases[0]), lax.bitwise_and(which, cases[1]))]


def ordered(compare: Callable) -> Callable:
    """Of numbers, among which there is no NaN."""
    return lambda eqn, x, y: [compare(x, y)]


def float_of_bits(eqn: Any, x: Any) -> Sequence[Any]:
    """A float32 by its bits, uint32; numbers below the normal ones become 0, and NaN infinity."""
    if eqn.params["new_dtype"] != np.float32 or x.dtype != np.uint32:
        return bound(eqn, x)
    bits = lax.convert_element_type(lax.shift_right_logical(x, np.uint32(23)), np.int32)  # sign and exponent
    fraction = lax.convert_element_type(lax.bitwise_and(x, np.uint32(0x7FFFFF)), np.float32)
    return [taken(jnp.asarray(POWERS), bits) * (np.float32(1) + fraction * np.float32(2**-23))]


def taken(row: Any, places: Any) -> Any:
    """The entries of a row at places, all of which it has."""
    dims = lax.GatherDimensionNumbers(offset_dims=(), collapsed_slice_dims=(0,), start_index_map=(0,))
    inside = lax.GatherScatterMode.PROMISE_IN_BOUNDS
    return lax.gather(row, places.reshape(-1, 1), dims, (1,), mode=inside).reshape(places.shape)


def outside(kind: np.dtype) -> Any:
    """What JAX gives for an entry that is not there."""
    if kind.kind == "b":
        return True
    return np.nan if kind.kind == "f" else np.iinfo(kind).min if kind.kind == "i" else np.iinfo(kind).max


def gathered(eqn: Any, x: Any, starts: Any) -> Sequence[Any]:
    """All entries by their places in the flattened array: the one kind of gather that every runtime has."""
    dims, sizes, mode = (eqn.params[name] for name in ("dimension_numbers", "slice_sizes", "mode"))
    shape = eqn.outvars[0].aval.shape
    ours = [axis for axis in range(len(shape)) if axis not in dims.offset_dims]  # axes of `starts` but its last
    theirs = [a for a in range(x.ndim) if a not in (*dims.collapsed_slice_dims, *dims.operand_batching_dims)]
    starts = lax.convert_element_type(starts, np.int32)
    at: list[Any] = [jnp.zeros(shape, np.int32) for _ in x.shape]
    inside = jnp.ones(shape, bool)
    for number, axis in enumerate(dims.start_index_map):
        start = lax.broadcast_in_dim(starts[..., number], shape, ours)
        most = np.int32(x.shape[axis] - sizes[axis])
        inside = inside & (start >= 0) & (start <= most)
        at[axis] = lax.clamp(np.int32(0), start, most)
    for axis, each in zip(dims.operand_batching_dims, dims.start_indices_batching_dims, strict=True):
        at[axis] = lax.broadcasted_iota(np.int32, shape, ours[each])
    for axis, each in zip(theirs, dims.offset_dims, strict=True):
        at[axis] = at[axis] + lax.broadcasted_iota(np.int32, shape, each)
    strides = [int(np.prod(x.shape[axis + 1 :])) for axis in range(x.ndim)]
    found = taken(x.reshape(-1), sum(each * np.int32(stride) for each, stride in zip(at, strides, strict=True)))
    if mode != lax.GatherScatterMode.FILL_OR_DROP:
        return [found]
    fill = outside(np.dtype(x.dtype)) if eqn.params["fill_value"] is None else eqn.params["fill_value"]
    return [jnp.where(inside, found, jnp.asarray(fill, x.dtype))]


def padded(eqn: Any, x: Any, value: Any) -> Sequence[Any]:
    """Room between the entries by an axis of its own; what is cut off by slices."""
    config = eqn.params["padding_config"]
    for axis, (low, high, between) in enumerate(config):
        if between:
            long = (*x.shape[:axis], x.shape[axis] * (between + 1), *x.shape[axis + 1 :])
            room = [(0, between if each == axis + 1 else 0, 0) for each in range(x.ndim + 1)]
            x = lax.pad(lax.expand_dims(x, (axis + 1,)), value, room).reshape(long)
            x = lax.slice_in_dim(x, 0, long[axis] - between, axis=axis)
        x = lax.slice_in_dim(x, max(-low, 0), x.shape[axis] - max(-high, 0), axis=axis)
    return [lax.pad(x, value, [(max(low, 0), max(high, 0), 0) for low, high, _ in config])]


def same(eqn: Any, key: Any) -> Sequence[Any]:
    return [key]


def of_keys(function: Callable, *given: Any) -> Any:
    """The generator's function, of raw keys, in these primitives as well."""
    return evaluate(jax.make_jaxpr(function)(*given), *given)


def mapped(function: Callable, axes: int) -> Callable:
    for _ in range(axes):
        function = jax.vmap(function)
    return function


def bits(eqn: Any, keys: Any) -> Sequence[Any]:
    draw = partial(threefry.random_bits, bit_width=eqn.params["bit_width"], shape=eqn.params["shape"])
    return of_keys(mapped(draw, keys.ndim - 1), keys)


def split(eqn: Any, keys: Any) -> Sequence[Any]:
    return of_keys(mapped(partial(threefry.split, shape=eqn.params["shape"]), keys.ndim - 1), keys)


def seed(eqn: Any, seeds: Any) -> Sequence[Any]:
    return of_keys(mapped(threefry.seed, seeds.ndim), seeds)


def fold_in(eqn: Any, keys: Any, data: Any) -> Sequence[Any]:
    data = jnp.broadcast_to(lax.convert_element_type(data, np.uint32), keys.shape[:-1])
    return of_keys(mapped(threefry.fold_in, keys.ndim - 1), keys, data)


def places(eqn: Any) -> Sequence[Any]:
    """The numbers of an array's entries, as the upper and the lower half of 64 bits."""
    shape = eqn.params["shape"]
    count = int(np.prod(shape))
    numbers = np.arange(count, dtype=np.uint64).reshape(shape)
    return [(numbers >> np.uint64(32)).astype(np.uint32), numbers.astype(np.uint32)]


def rotated(x: Any, by: Any) -> Any:
    return lax.bitwise_or(lax.shift_left(x, by), lax.shift_right_logical(x, np.uint32(32) - by))


def threefry2x32(eqn: Any, first: Any, second: Any, x: Any, y: Any) -> Sequence[Any]:
    """20 rounds (Salmon et al. 2011), four at a turn of a loop: a graph of few nodes."""
    shape = np.broadcast_shapes(*(np.shape(each) for each in (first, second, x, y)))
    first, second, x, y = (jnp.broadcast_to(each, shape) for each in (first, second, x, y))
    third = lax.bitwise_xor(lax.bitwise_xor(first, second), np.uint32(0x1BD11BDA))

    def turn(carry: Any, rows: Any) -> Any:
        (x, y, first, second, third), (row,) = carry, rows
        for place in range(4):
            x = lax.add(x, y)
            y = lax.bitwise_xor(x, rotated(y, jnp.broadcast_to(row[place], shape)))
        return [lax.add(x, second), lax.add(lax.add(y, third), row[4]), second, third, first]

    carry = (lax.add(x, first), lax.add(y, second), first, second, third)
    return scanned(turn, carry, [jnp.asarray(TURNS)])[:2]


RULES: dict[str, Callable] = {
    "jit": inlined("jaxpr"),
    "pjit": inlined("jaxpr"),
    "closed_call": inlined("call_jaxpr"),
    "core_call": inlined("call_jaxpr"),
    "custom_jvp_call": inlined("call_jaxpr"),
    "custom_vjp_call": inlined("call_jaxpr"),
    "checkpoint": inlined("jaxpr"),
    "scan": scan,
    "while": loop,
    "cond": branch,
    "random_wrap": same,
    "random_unwrap": same,
    "random_clone": same,
    "random_bits": bits,
    "random_split": split,
    "random_fold_in": fold_in,
    "random_seed": seed,
    "threefry2x32": threefry2x32,
    "iota_2x32_shape": places,
    "bitcast_convert_type": float_of_bits,
    "select_n": selected,
    "pad": padded,
    "gather": gathered,
    "lt_to": ordered(lax.lt),
    "le_to": ordered(lax.le),
}
