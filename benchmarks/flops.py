"""How many floating-point operations a function asks for: those of its matrix products, which are nearly all.

They are counted in the function as it is traced, before the compiler: what a loop repeats counts as often, what a
branch may skip counts as if the dearest branch were taken. XLA's own analysis counts a loop's body once.
"""

import math
from collections.abc import Callable
from typing import Any

import jax


def matmul_flops(function: Callable, *arguments: Any) -> float:
    """Twice the multiplications of all matrix products in one call of the function; its arguments may be shapes."""
    return count(jax.make_jaxpr(function)(*arguments).jaxpr, flops)


def matmuls(function: Callable, *arguments: Any) -> int:
    """How many matrix products one call of the function makes; its arguments may be shapes."""
    return round(count(jax.make_jaxpr(function)(*arguments).jaxpr, lambda _: 1.0))


def flops(product: Any) -> float:
    """Twice the multiplications of a `dot_general`."""
    (contracted, _), _ = product.params["dimension_numbers"]
    left = product.invars[0].aval.shape
    return 2.0 * math.prod(product.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)


def count(jaxpr: Any, of: Callable[[Any], float]) -> float:
    """The sum over all matrix products of a program."""
    return sum(of_equation(equation, of) for equation in jaxpr.eqns)


def of_equation(equation: Any, of: Callable[[Any], float]) -> float:
    if equation.primitive.name == "dot_general":
        return of(equation)
    inner = [count(jaxpr, of) for value in equation.params.values() for jaxpr in jaxprs(value)]
    if equation.primitive.name == "cond":
        return max(inner, default=0.0)
    return sum(inner) * (equation.params["length"] if equation.primitive.name == "scan" else 1)


def jaxprs(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [jaxpr for each in value for jaxpr in jaxprs(each)]
    inner = getattr(value, "jaxpr", value)  # a closed one holds another
    return [inner] if hasattr(inner, "eqns") else []


def tree_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
