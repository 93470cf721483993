"""What is computed only where it is due, in a batch as well."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


def where_due(due: jax.Array, make: Callable[[Tree], Tree], kept: Tree) -> Tree:
    """`make(kept)`, a tree like `kept`, where `due`, a scalar, and `kept` otherwise.

    Under `vmap`, over seeds say, `lax.cond` computes both branches; this computes nothing where none is due. No
    reverse-mode gradient goes through it, those inside `make` are their own business.
    """

    def once(carry):
        return jnp.zeros_like(carry[0]), make(carry[1])

    return jax.lax.while_loop(lambda carry: carry[0], once, (due, kept))[1]
