"""Hooks: maps (x, t) -> x of x's shape that keep x where it must be, between the sampler's steps and in training.

A hook may be given alone or with others in a sequence, applied in order; so inpainting, the projection onto a safe set
and a caller's own projection compose.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Hook = Callable[[jax.Array, jax.Array], jax.Array]
Hooks = Hook | Sequence[Hook] | None


def chain(*hooks: Hooks) -> Hook:
    """One hook that applies several in order, each of them a hook, a sequence of hooks, or None."""
    flat = [hook for each in hooks if each is not None for hook in ([each] if callable(each) else each)]

    def chained(x, t):
        for hook in flat:
            x = hook(x, t)
        return x

    return chained


def inpaint(mask, values) -> Hook:
    """Hook that holds entries at given clean values (Janner et al. 2022, section 4.3).

    mask (bool) and values broadcast to x. The values are written clean at every noise level, as Diffuser does, and
    must be so in training too (`Process.loss(project=...)`). A mask of floats in [0, 1] is soft: it says how far each
    entry is drawn from x (0) to its value (1).
    """
    mask = jnp.asarray(mask)
    if jnp.issubdtype(mask.dtype, jnp.floating):
        return lambda x, t: mask * values + (1 - mask) * x
    return lambda x, t: jnp.where(mask, values, x)
