"""Guidance maps a denoiser to a denoiser, and composes. A guide maps x to x before an evaluation.

A denoiser is (x, t) -> x0_hat. Guidance in x0 is guidance in the score: score = (alpha x0_hat - x) / sigma^2.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from reverie.diffusion.hooks import Hooks, chain
from reverie.diffusion.process import Process
from reverie.diffusion.sampling import table
from reverie.diffusion.solvers import SOLVERS
from reverie.errors import ReverieError


def compose(predict: Callable, conditions: Sequence, scales: Sequence[float], null) -> Callable:
    """eps_u + sum_i w_i (eps_i - eps_u): several conditions at once, in one batch (Ajay et al. 2023, eq. 9).

    predict: (x, t, condition) -> x0_hat, for any leading batch shape. A condition is an array or a tree of arrays (a
    dictionary, say), and `null` the one that stands for none, of the same structure. At every noise level the score is
    that of p(x_t) prod_i (p(x_t|y_i) / p(x_t))^w_i, so positive scales are AND, and a negative scale is NOT: it leads
    away from its condition (Liu et al. 2022). With a single condition, w = 1 is the conditional model and w = 0 the
    unconditional (the convention w = 1 + w' where w' is Ho & Salimans' weight). Clip x0_hat after guidance, not before.
    Raises ReverieError unless there is one scale for each condition and all structures are the same.
    """
    if len(conditions) != len(scales):
        raise ReverieError(f"{len(conditions)} conditions but {len(scales)} guidance scales; give one scale each")
    stacked = _stacked(null, conditions)

    def denoiser(x, t):
        base, *guided = predict(jnp.broadcast_to(x, (len(scales) + 1, *x.shape)), t, stacked)
        return base + sum(w * (x0 - base) for w, x0 in zip(scales, guided, strict=True))

    return denoiser


def _stacked(null, conditions: Sequence) -> Any:
    """The null and the conditions as one, `[1 + conditions, ...]` each leaf."""
    wanted, *given = (str(jax.tree.structure(tree)) for tree in (null, *conditions))
    if any(structure != wanted for structure in given):
        raise ReverieError(f"conditions have the structures {', '.join(given)}; give each the null's, {wanted}")
    return jax.tree.map(lambda *c: jnp.stack(jnp.broadcast_arrays(*c)), null, *conditions)


def classifier_free(predict: Callable, condition, null, scale: float) -> Callable:
    """Classifier-free guidance (Ho & Salimans 2022) in one doubled batch: eps_u + scale (eps_c - eps_u). By scales of 1
    and 0 it is not doubled, as only one of the two counts."""
    if scale in (0, 1):
        counts = jax.tree.map(lambda both: both[int(scale)], _stacked(null, [condition]))
        return lambda x, t: predict(x, t, counts)
    return compose(predict, [condition], [scale], null)


def combine(process: Process, denoisers: Sequence[Callable], scales: Sequence[float]) -> Callable:
    """sum_i w_i eps_i of several models on one space, each with its own conditions: their skills together.

    At every noise level the score is that of prod_i p_i(x_t)^w_i (Liu et al. 2022). Scales that sum to
    1 keep the width of what all models agree on; 1, 1 and -1 are p_1 p_2 / p_3. Any others need a process with a signal
    at its noisiest time, as an eps that is not the noise's own says nothing of x0 without one: there x0_hat is then the
    sum of the models' alone. Raises ReverieError unless there is one scale for each model.
    """
    if len(denoisers) != len(scales):
        raise ReverieError(f"{len(denoisers)} denoisers but {len(scales)} scales; give one scale each")
    rest = 1 - sum(scales)

    def denoiser(x, t):
        total = sum(w * each(x, t) for w, each in zip(scales, denoisers, strict=True))
        if abs(rest) < 1e-6:
            return total
        alpha = process.alpha(t)
        return total + rest * jnp.where(alpha > 0, 1 / jnp.maximum(alpha, 1e-12), 0) * x

    return denoiser


def energy(process: Process, denoiser: Callable, log_density: Callable, scale: float = 1.0) -> Callable:
    """Classifier guidance (Dhariwal & Nichol 2021): eps - scale sigma grad log p(y|x_t).

    log_density: (x, t) -> log p(y|x_t) or -energy, [batch]. It must know noisy inputs: the exact one is
    log E[p(y|x0) | x_t]. At pure noise with alpha = 0, where x_t says nothing of y, there is no guidance.
    """

    def guided(x, t):
        gradient = jax.grad(lambda x: log_density(x, t).sum())(x)
        alpha, sigma = process.alpha(t), process.sigma(t)
        return denoiser(x, t) + scale * jnp.where(alpha > 0, sigma**2 / jnp.maximum(alpha, 1e-12), 0) * gradient

    return guided


def soft_inpaint(process: Process, denoiser: Callable, values: Any, weight: Any, *, largest: float = 5.0) -> Callable:
    """Leads x0_hat to `values` where `weight` is 1, and less where it is less, by the gradient of their agreement
    through the denoiser (pseudoinverse guidance, Song et al. 2023; Black et al. 2025, eq. 2 to 4).

    values, weight: broadcast to x; values may be a function of x0_hat, such as a projection on a set. A row that is
    held draws along what belongs to it, as the gradient tells, which writing it in does not. largest: of the guidance's
    weight, in units of the flow's velocity, which is unbounded at both ends of the path.
    """

    def guided(x, t):
        x0, pull = jax.vjp(lambda x: denoiser(x, t), x)
        (gradient,) = pull(weight * ((values(x0) if callable(values) else values) - x0))
        alpha, sigma = process.alpha(t), process.sigma(t)
        # 1 / (alpha sigma) of the exact posterior's guidance, as x0_hat moves by sigma where the velocity moves by 1.
        size = jnp.minimum((alpha**2 + sigma**2) / jnp.maximum(alpha * sigma, 1e-12), largest)
        return x0 + sigma * size * gradient

    return guided


def value_gradient(
    value: Callable,
    scale: float,
    *,
    steps: int = 1,
    stop: float = 0.0,
    project: Hooks = None,
    process: Process | None = None,
) -> Callable:
    """Diffuser's guide (Janner et al. 2022, algorithm 1, as its code has it): before an evaluation,
    x <- x + scale * (posterior variance of the step) * grad_x value(x, t), `steps` times, projected after each.

    value: (x, t) -> [batch], trained on noisy x. At times below `stop` x is left alone. project: a hook, or several in
    order. process: a discrete one, of whose levels a step may skip some; its variance is then the sum of theirs, so
    that a chain of few evaluations is moved by as much in all as one of every level. Without it a step's variance is
    its own, which is less than the sum. The paper shifts the posterior's mean; its code, and this, the step's input.
    """

    hold, variance = chain(project), _of_levels(process, stop) if process else lambda row: row.posterior_variance

    def ascend(x, row):
        def once(_, x):
            x = x + scale * variance(row) * jax.grad(lambda x: value(x, row.start.t).sum())(x)
            return hold(x, row.start.t)

        return jax.lax.fori_loop(0, steps, once, x)

    def guide(x, row):
        return jax.lax.cond(row.start.t >= stop, ascend, lambda x, row: x, x, row)

    return guide


def _of_levels(process: Process, stop: float) -> Callable:
    """The posterior variance of a row's step; of one that skips levels of a discrete process, the sum of those that the
    full chain's steps have, from times not below `stop`."""
    if process.steps is None:
        return lambda row: row.posterior_variance
    with jax.ensure_compile_time_eval():
        full = table(process, SOLVERS["ddpm"], process.steps, None, None)
        variances = jnp.where(full.start.t >= stop, full.posterior_variance, 0)
    half = 0.5 / process.steps

    def variance(row):
        passed = (full.start.t < row.start.t + half) & (full.start.t > row.end.t + half)
        return jnp.where(passed, variances, 0).sum()

    return variance
