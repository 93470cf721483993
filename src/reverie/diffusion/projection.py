"""The point nearest to another that satisfies several linear inequalities: many small quadratic programs at once.

The dual of each has one unknown a constraint, min 1/2 λ'Gλ - d'λ over λ >= 0, and is solved exactly by principal
pivoting. Everything is arithmetic on arrays `[..., K, K]`, without a factorisation, which is what makes it fast in a
chain of denoising.
"""

import jax
import jax.numpy as jnp

RIDGE = 1e-4
"""Added to the Gram matrix of unit normals: constraints that contradict each other have a solution too, of least
squared violation; those that do not are violated by this share of their multipliers."""
TOLERANCE = 1e-7
"""What counts as satisfied, in lengths."""


def nearest_point(x, normals, deficits, slack=0.0) -> tuple[jax.Array, jax.Array]:
    """min |y - x|^2 subject to normals (y - x) >= deficits: how far to move, y - x, `[..., D]`, and where it is needed
    at all, bool `[...]`.

    x: `[..., D]`. normals: `[..., K, D]`, of any length; one of length 0 is no constraint. deficits: `[..., K]`; where
    none is positive, nothing moves. slack: of each constraint r, at a cost: normals (y - x) + slack r >= deficits, with
    r^2 added to what is minimised (Xiao et al. 2023, relaxed-safe diffuser); 0 for none. Where the constraints
    contradict each other, the sum of their squared violations, in lengths, is the least. Always finite for finite
    arguments.
    """
    length = jnp.sqrt(jnp.square(normals).sum(-1))
    known = length > 1e-9
    scale = jnp.where(known, 1 / jnp.where(known, length, 1), 0)
    unit, deficits = normals * scale[..., None], jnp.where(known, deficits * scale, -1.0)
    ridge = RIDGE + jnp.square(slack * scale)
    needed = (deficits > 0).any(-1)
    if unit.shape[-2] == 1:  # G is 1, or 0 without a normal
        multipliers = jnp.maximum(deficits, 0) / (1 + ridge - RIDGE)
    else:
        gram = jnp.einsum("...id,...jd->...ij", unit, unit, precision="highest")
        multipliers = complementary(gram + ridge[..., None] * jnp.eye(unit.shape[-2]), deficits)
    step = (multipliers[..., None] * unit).sum(-2)
    return jnp.where(needed[..., None], step, 0.0), needed


def complementary(matrix, deficits) -> jax.Array:
    """λ >= 0 with matrix λ >= deficits, where each λ is 0 or its row met exactly: `[..., K]` of a positive definite
    `[..., K, K]`.

    Principal pivoting: the worst constraint on the wrong side is swept to the other; after 2K exchanges the first one,
    with which it cannot go round in circles (Murty 1974). All problems go on until the last is solved, or for 8K + 16
    exchanges.
    """
    size = matrix.shape[-1]
    diagonal = jnp.eye(size, dtype=bool)

    def wrong(values, active):
        """By how much: what is still missing of a constraint that is let go, a multiplier below 0 of one that holds."""
        return jnp.where(active, -values, values)

    def unsolved(carry):
        count, _, values, active = carry
        return (count < 8 * size + 16) & (wrong(values, active) > TOLERANCE).any()

    def exchange(carry):
        count, table, values, active = carry
        amount = wrong(values, active)
        place = jnp.where(count < 2 * size, amount.argmax(-1), (amount > TOLERANCE).argmax(-1))
        chosen = (jnp.arange(size) == place[..., None]) & (amount > TOLERANCE)
        column = (table * chosen[..., None, :]).sum(-1)
        pivot = jnp.where(chosen.any(-1, keepdims=True), (column * chosen).sum(-1, keepdims=True), 1.0)
        scaled, value = column / jnp.abs(pivot), (values * chosen).sum(-1, keepdims=True)
        rows, columns = chosen[..., None], chosen[..., None, :]
        swept = table - column[..., None] * column[..., None, :] / pivot[..., None]
        swept = jnp.where(rows, scaled[..., None, :], jnp.where(columns, scaled[..., None], swept))
        swept = jnp.where(rows & diagonal, -1 / pivot[..., None], swept)
        values = jnp.where(chosen, value / jnp.abs(pivot), values - column * value / pivot)
        return count + 1, swept, values, active ^ chosen

    start = jnp.zeros((), jnp.int32), matrix, deficits, jnp.zeros(deficits.shape, bool)
    _, _, values, active = jax.lax.while_loop(unsolved, exchange, start)
    return jnp.where(active, jnp.maximum(values, 0), 0.0)
