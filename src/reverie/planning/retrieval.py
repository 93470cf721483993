"""Retrieval: a chain of denoising that begins at a stored plan instead of at noise, and so is short.

The stored plan whose known entries (the current observation, a goal) are nearest is noised by a few levels and denoised
again, which leads from there to the situation at hand; diffusion policies have been begun so from an expert's actions
(RAGDP, arXiv 2507.21452). Stored are windows of the data, or plans that did well meanwhile. They stay with the run, in
its specification's `kept`.

The search is exact and by brute force, a matrix product. It is part of the compiled function that acts, for a batch of
environments on whatever device: a tree on the host would interrupt it at every plan, and could save little among the
thousands of plans that a store has.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Spec
from reverie.errors import ReverieError

PLANS = "plans"
"""The name of the stored plans in `Spec.kept`."""


def remember(spec: Spec, plans, capacity: int = 1000) -> Spec:
    """The specification with these plans `[K, H, D]`, in network units, beside those that it has: of both the newest
    `capacity`.

    A store that is not full repeats what it has. So its size, and with it the compiled function, stays as it is while
    plans are added. Raises ReverieError for a capacity below 1, for no plan, and for plans of another shape than the
    store's.
    """
    plans, known = np.asarray(plans, np.float32), np.asarray(spec.kept.get(PLANS, ()))
    if capacity < 1:
        raise ReverieError(f"capacity = {capacity}, but a store holds at least 1 plan")
    if plans.ndim != 3 or not len(plans):
        raise ReverieError(f"Plans of shape {plans.shape} cannot be stored; give at least one, as [K, H, D].")
    if known.size and known.shape[1:] != plans.shape[1:]:
        raise ReverieError(f"The stored plans have shape {known.shape[1:]}, and those given {plans.shape[1:]}.")
    newest = np.concatenate([known, plans])[-capacity:] if known.size else plans[-capacity:]
    return replace(spec, kept=spec.kept | {PLANS: jnp.asarray(np.resize(newest, (capacity, *plans.shape[1:])))})


def nearest(spec: Spec, values, mask) -> jax.Array:
    """Of the stored plans those that are nearest to `values` `[..., H, D]` in the entries of the `mask` (bool, `[H, D]`
    or `[..., H, D]`): `[..., H, D]`. Raises ReverieError where there are none, or of another shape."""
    if PLANS not in spec.kept:
        raise ReverieError("No plan is stored that a chain could begin at; give the run some by remember.")
    plans, size = jnp.asarray(spec.kept[PLANS]), values.shape[-2:]
    if plans.shape[1:] != size:
        raise ReverieError(f"The stored plans have shape {plans.shape[1:]}, and a plan has {size}; store others.")
    known = jnp.broadcast_to(mask, values.shape).reshape(*values.shape[:-2], -1)
    wanted, stored = values.reshape(known.shape), plans.reshape(len(plans), -1)
    # The squared distance but for what is the same for all plans.
    products = [
        jnp.matmul(x, y.T, precision="highest") for x, y in ((known * wanted, stored), (1.0 * known, stored**2))
    ]
    return plans[(products[1] - 2 * products[0]).argmin(-1)]
