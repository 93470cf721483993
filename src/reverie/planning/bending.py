"""Plans that are moved as a whole until constraints hold between their rows too.

A row that is moved alone leaves its neighbours where they were, and what follows the plan does not follow it there. So
the move costs what it bends: the squares of its second differences, which is CHOMP's metric (Ratliff et al. 2009,
"CHOMP: Gradient Optimization Techniques for Efficient Motion Planning").
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

REACH = 16.0
"""Rows that a push reaches to each side, about: a move costs REACH^-4 of itself too, without which long plans would
bend as a whole, and whose costs single precision could not invert."""
MOVES = 100
"""At most, one for the worst place that is left."""
ENOUGH = 1e-4
"""What may be missing of what is asked for, as every move undoes a little of the last ones."""


def interpolation(rows: int, between: int) -> np.ndarray:
    """The weights of `rows` rows in the points on the straight lines between them, `between` to a line with its start,
    and in the last row: `[(rows - 1) * between + 1, rows]`."""
    at = np.arange((rows - 1) * between + 1) / between
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(rows))).astype(np.float32)


def stiffness(rows: int) -> np.ndarray:
    """Of a move of `rows` rows, the matrix of the sum of its second differences' squares, those of an end with a row
    that stands still beside it among them, and of its own: `[rows, rows]`."""
    second = np.diff(np.eye(rows + 2), 2, axis=0)[:, 1:-1]
    return (second.T @ second + np.eye(rows) / REACH**4).astype(np.float32)


def bend(rows, held, measured: Callable, least: float, between: int, furthest: float) -> jax.Array:
    """Windows `[..., H, D]` moved until constraints hold on the lines between their rows.

    held: bool `[..., H]`, rows that stay. measured: points `[..., P, D]` to the constraints' values `[..., P, K]` and
    gradients `[..., P, K, D]`; each value is to be at least `least`. The worst of all is made good, as its
    linearisation has it, by the move that bends least, of at most `furthest` there; then the next, until none is left.
    """
    weights = interpolation(rows.shape[-2], between)
    free = ~jnp.broadcast_to(held, rows.shape[:-1])
    both = free[..., None] & free[..., None, :]
    costs = jnp.where(both, stiffness(rows.shape[-2]), jnp.eye(rows.shape[-2]))
    moves = jnp.where(both, jnp.linalg.inv(costs), 0) @ weights.T  # of all rows, by a push at a point: [..., H, P]
    gains = (weights.T * moves).sum(-2)
    moves = moves / jnp.maximum(gains, 1e-9)[..., None, :]

    def missing(rows):
        values, normals = measured(jnp.einsum("ph,...hd->...pd", weights, rows))
        movable = (normals != 0).any(-1) & (gains > 1e-6)[..., None]
        return jnp.where(movable, least - values, -jnp.inf), normals

    def wrong(carry):
        count, _, (amounts, _) = carry
        return (count < MOVES) & (amounts > ENOUGH).any()

    def move(carry):
        count, rows, (amounts, normals) = carry
        point, push = worst_place(amounts, normals, furthest)
        rows = rows + jnp.take_along_axis(moves, point[..., None, None], -1) * push[..., None, :]
        return count + 1, rows, missing(rows)

    return jax.lax.while_loop(wrong, move, (jnp.zeros((), jnp.int32), rows, missing(rows)))[1]


def worst_place(amounts, normals, furthest: float) -> tuple[jax.Array, jax.Array]:
    """Of what is missing, `[..., P, K]`, the point of the largest, int `[...]`, and the move `[..., D]` along its
    gradient that makes it good, of at most `furthest`; 0 where no more than ENOUGH is missing."""
    flat = amounts.reshape(*amounts.shape[:-2], -1)
    worst = flat.argmax(-1)[..., None]
    amount = jnp.take_along_axis(flat, worst, -1)
    normal = jnp.take_along_axis(normals.reshape(*flat.shape, -1), worst[..., None], -2)[..., 0, :]
    length = jnp.maximum(jnp.sqrt(jnp.square(normal).sum(-1, keepdims=True)), 1e-9)
    far = jnp.where(amount > ENOUGH, jnp.minimum(amount / length, furthest), 0)
    return worst[..., 0] // amounts.shape[-1], far * normal / length
