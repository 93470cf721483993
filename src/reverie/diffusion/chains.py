"""A sampler as a Markov chain of Gaussian steps: drawn with all of its states, and how likely they are.

What learns by the likelihood of a chain (DPPO, ReinFlow), or by adjoints along it (QAM), needs that of the very chain
that was drawn: both come from one table of noise levels and one `Kernel`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from reverie.diffusion.process import Process
from reverie.diffusion.sampling import sample, table
from reverie.diffusion.solvers import Row, Solver

Array = jax.Array
Kernel = Callable[[Row, Array, Array], tuple[Any, Any]]
"""(row, x, x0_hat) -> mean and standard deviation of the next x, the latter of x's shape or a scalar."""


def solver_of(kernel: Kernel, largest_noise: float | None = None) -> Solver:
    """The solver whose steps are drawn from the kernel; noise is clipped to `largest_noise` standard deviations."""

    def step(row, x, x0, noise, memory):
        noise = noise if largest_noise is None else jnp.clip(noise, -largest_noise, largest_noise)
        mean, std = kernel(row, x, x0)
        return mean + std * noise, memory

    return Solver(step)


def draw_chain(
    process: Process,
    denoiser: Callable,
    kernel: Kernel,
    key,
    shape: tuple[int, ...],
    *,
    nfe: int,
    kept: int,
    largest_noise: float | None = None,
    **options,
) -> Array:
    """The last `kept` of `nfe` steps from noise to a sample of `shape` `[..., d]`, with the x that they begin at:
    `[..., kept + 1, d]`, whose last entry is the sample. `options` are those of `sample`; noise of the steps is clipped
    to `largest_noise` standard deviations where that is given."""
    first_key, key = jax.random.split(key)
    noise = jax.random.normal(first_key, shape)
    solver = solver_of(kernel, largest_noise)
    _, past = sample(process, denoiser, key, shape, nfe=nfe, solver=solver, noise=noise, history=True, **options)
    whole = jnp.concatenate([process.prior_scale * noise[None], past])
    return jnp.moveaxis(whole[nfe - kept :], 0, -2)


def steps_of_chain(
    process: Process, denoiser: Callable, kernel: Kernel, chain, *, nfe: int, clip_x0: tuple | None = None
) -> tuple[Array, Array]:
    """Mean and standard deviation of every step of a chain `[..., kept + 1, d]` of `draw_chain`, given the x before it:
    `[..., kept, d]` each.

    denoiser: (x `[..., kept, d]`, t `[kept]`) -> x0_hat, as it was when the chain was drawn, or learned since.
    """
    before = chain[..., :-1, :]
    rows = jax.tree.map(lambda values: values[:, None], _rows(process, kernel, nfe, before.shape[-2]))
    x0 = denoiser(before, jnp.broadcast_to(rows.level.t[:, 0], before.shape[:-1]))
    mean, std = kernel(rows, before, x0 if clip_x0 is None else jnp.clip(x0, *clip_x0))
    return mean, jnp.broadcast_to(std, mean.shape)


def adjoints(
    process: Process, denoiser: Callable, kernel: Kernel, chain, slope, *, nfe: int, clip_x0: tuple | None = None
) -> Array:
    """The gradient by the x that each step of a chain `[..., kept + 1, d]` ends at, of what has the gradient `slope`
    `[..., d]` by the sample: `[..., kept, d]`, of which the last is `slope`. Of later steps the noise is held, and its
    standard deviation too (the lean adjoint of Domingo-Enrich et al. 2025, "Adjoint Matching", in discrete time).

    denoiser: (x `[..., d]`, t) -> x0_hat with a scalar t.
    """

    def back(slope, step):
        row, x = step

        def mean(x):
            x0 = denoiser(x, row.level.t)
            return kernel(row, x, x0 if clip_x0 is None else jnp.clip(x0, *clip_x0))[0]

        (before,) = jax.vjp(mean, x)[1](slope)
        return before, before

    begins = jnp.moveaxis(chain[..., 1:-1, :], -2, 0)
    _, earlier = jax.lax.scan(back, slope, (_rows(process, kernel, nfe, len(begins)), begins), reverse=True)
    return jnp.concatenate([jnp.moveaxis(earlier, 0, -2), slope[..., None, :]], -2)


def _rows(process: Process, kernel: Kernel, nfe: int, kept: int) -> Row:
    """Of the table of noise levels the last `kept` rows: `[kept]` in every entry."""
    with jax.ensure_compile_time_eval():
        rows = table(process, solver_of(kernel), nfe, None, None)
    return jax.tree.map(lambda values: jnp.asarray(values)[nfe - kept :], rows)


def log_density(x, mean, std) -> Array:
    """Of a Gaussian, in nats and for every entry by itself: of x's shape."""
    return jax.scipy.stats.norm.logpdf(x, mean, std)
