"""Chunks that are denoised together and overlap: a solver that goes through them in order, their seams, their joining.

Chunks lie along the third last axis: `[..., C, H, D]`; each overlaps the next by a number of rows.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from reverie.diffusion import Row, Solver


def interleaved(solver: Solver, predict: Callable) -> Solver:
    """One chunk after another within every noise level, so that a chunk sees its left neighbour one level cleaner, as
    the step leaves it, and its right one at its own (Luo et al. 2025, section 3.3, autoregressive denoising).

    predict: `(x [..., C, H, D], chunk's number, row) -> x0_hat [..., H, D]` of that chunk. The x0_hat of the driver is
    not looked at, so that its denoiser may be anything.
    """

    def step(row: Row, x, _, noise, memory):
        def one(k, carry):
            x, memory = carry
            mine = [_chunk(each, k) for each in (x, noise)]
            moved, after = solver.step(row, mine[0], predict(x, k, row), mine[1], _chunk(memory, k))
            return _put(x, moved, k), _put(memory, after, k)

        return jax.lax.fori_loop(0, x.shape[-3], one, (x, memory))

    return Solver(step, solver.memory, solver.stages, solver.noisy, solver.churn, solver.churn_noise)


def _chunk(tree, k):
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, x.ndim - 3, keepdims=False), tree)


def _put(tree, chunk, k):
    return jax.tree.map(lambda x, c: jax.lax.dynamic_update_index_in_dim(x, c, k, x.ndim - 3), tree, chunk)


def seam_gaps(chunks, overlap: int) -> jax.Array:
    """How far neighbours are apart where they overlap, the mean over rows and seams: `[..., C, H, D] -> [...]`; 0 for a
    single chunk."""
    if chunks.shape[-3] == 1:
        return jnp.zeros(chunks.shape[:-3])
    apart = chunks[..., :-1, -overlap:, :] - chunks[..., 1:, :overlap, :]
    return jnp.linalg.norm(apart, axis=-1).mean((-2, -1))


def pieces(way, rows: int, every: int) -> jax.Array:
    """The windows of so many rows that begin `every` rows, and the last: `[..., R, D] -> [..., P, rows, D]`."""
    last = way.shape[-2] - rows
    starts = [*range(0, last, every), last]
    return jnp.stack([way[..., start : start + rows, :] for start in starts], -3)


def joined_rows(chunks: int, horizon: int, overlap: int) -> int:
    """Rows of chunks of `horizon` rows, joined."""
    return chunks * horizon - (chunks - 1) * overlap


def join(chunks, overlap: int, sharpness: float = 2.0) -> jax.Array:
    """Neighbours blended where they overlap, from all of the left at its first row to all of the right at its last:
    `[..., C, H, D] -> [..., joined rows, D]`. The left's weight falls exponentially, the faster the larger
    `sharpness` is; 0 is a straight line."""
    place = np.linspace(0.0, 1.0, overlap) if overlap > 1 else np.full(1, 0.5)
    falling = np.expm1(sharpness * (1 - place)) / np.expm1(sharpness) if sharpness else 1 - place
    weight = jnp.asarray(falling, chunks.dtype)[:, None]
    way = chunks[..., 0, :, :]
    for k in range(1, chunks.shape[-3]):
        right = chunks[..., k, :, :]
        blended = weight * way[..., -overlap:, :] + (1 - weight) * right[..., :overlap, :]
        way = jnp.concatenate([way[..., :-overlap, :], blended, right[..., overlap:, :]], -2)
    return way
