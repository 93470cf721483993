"""The one driver that runs every solver.

It is a `lax.scan` with one network function evaluation (NFE) an iteration. It knows times, noise, hooks, clipping, warm
starts and the number of evaluations; a solver only knows how to get from one noise level to the next, given x0_hat.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from reverie.diffusion.hooks import Hooks, chain
from reverie.diffusion.process import DATA, Process
from reverie.diffusion.schedules import timesteps
from reverie.diffusion.solvers import SOLVERS, Row, Solver, transition
from reverie.errors import ReverieError


def table(process: Process, solver: Solver, nfe: int, schedule: str | None, start: float | None) -> Row:
    """The table of noise levels that the driver scans, one row an evaluation, numpy `[nfe]` in every entry."""
    n = nfe if solver.stages == 1 else nfe // 2 + 1
    times = timesteps(process, n, schedule, start)
    origin = jax.tree.map(np.asarray, process.level(times))
    raised = times
    if solver.churn:
        snr = solver.churn(origin.log_snr)
        raised = np.where(snr < origin.log_snr, process.time_of(snr), times)
    begin = jax.tree.map(np.asarray, process.level(raised))
    end = jax.tree.map(lambda values, last: np.append(values[1:], np.float32(last)), origin, DATA)

    h = end.log_snr - begin.log_snr
    with np.errstate(all="ignore"):
        extrapolation = np.append(0, h[1:] / (2 * h[:-1]))
    extrapolation = np.where(np.isfinite(extrapolation) & np.isfinite(h), extrapolation, 0).astype(np.float32)

    # Two stages everywhere but in the last step, and in the first too if the evaluations are even in number.
    double = np.zeros(n, bool) if solver.stages == 1 else np.arange(n) < n - 1
    double[0] &= nfe % 2 == 1
    step = np.repeat(np.arange(n), 1 + double)
    stage = np.append(0, (step[1:] == step[:-1]).astype(np.int32))
    return jax.tree.map(lambda v: v[step], Row(origin, begin, end, extrapolation, np.zeros(n)))._replace(stage=stage)


def repeated(rows: Row, times: int, until: float) -> tuple[Row, np.ndarray]:
    """Rows, those from times up to `until` so often, and for each whether it comes again."""
    counts = np.where(rows.origin.t <= until, times, 1)
    index = np.repeat(np.arange(len(counts)), counts)
    return jax.tree.map(lambda v: v[index], rows), np.append(index[1:] == index[:-1], False)


def sample(
    process: Process,
    denoiser: Callable,
    key: jax.Array,
    shape: tuple[int, ...],
    *,
    nfe: int,
    solver: Solver | str = "ddpm",
    schedule: str | None = None,
    guide: Callable | None = None,
    shield: Callable | None = None,
    project: Hooks = None,
    clip_x0: tuple | None = None,
    clip_x: tuple | None = None,
    temperature: float = 1.0,
    noise_temperature: float = 1.0,
    noise: jax.Array | None = None,
    warm_start: jax.Array | None = None,
    start: float | None = None,
    resampling: int = 1,
    resampling_time: float = 1.0,
    history: bool = False,
):
    """Draw samples of `shape` by `nfe` network function evaluations (NFE), each of which changes the result.

    denoiser: (x, t) -> x0_hat with a scalar t.
    solver, schedule: a Solver or a name in `SOLVERS`; a name in `SCHEDULES`, or None for the process's own.
    guide: (x, row) -> x before each evaluation (value gradients; one-stage solvers only).
    shield: (x, moved, row) -> x, of x before each evaluation and as the step then leaves it, and before `project`.
    project: hook (x, t) -> x on the first x and after every step (inpainting, a safe set); or several, in order.
    clip_x0, clip_x: (low, high) for x0_hat, and for x after every step.
    temperature, noise_temperature: scales of the initial noise and of the steps' noise.
    noise: the initial noise of `shape`, of unit variance; drawn from `key` if None.
    warm_start, start: a clean sample of `shape`, noised to time `start` in (0, 1], in place of pure noise at t_max.
    resampling, resampling_time: take each step from times up to this one so often, noised back in between (Lugmayr et
        al. 2022, RePaint); a repetition is an evaluation beyond `nfe`. Where scores are added, or entries held, a
        step's result is not distributed as at its noise level, and comes nearer to it so (Du et al. 2023).
    history: also return x after every evaluation, [evaluations, *shape].

    Differentiable throughout. Raises ReverieError for an unknown solver or schedule, for more steps than a discrete
    process has, and for a guide or resampling with a two-stage solver.
    """
    called = f"solver {solver!r}" if isinstance(solver, str) else "a solver"
    if isinstance(solver, str):
        if solver not in SOLVERS:
            raise ReverieError(f"solver {solver!r} is unknown; choose one of {', '.join(SOLVERS)}")
        solver = SOLVERS[solver]
    if guide and solver.stages > 1:
        raise ReverieError(
            f"a guide moves x before each evaluation, which {called} of two stages cannot follow; use a one-stage one"
        )
    if (warm_start is None) != (start is None):
        raise ReverieError("a warm start needs both the sample (warm_start) and the time to noise it to (start)")
    if resampling > 1 and solver.stages > 1:
        raise ReverieError(
            f"resampling = {resampling} repeats single evaluations, and {called} has two stages; use a one-stage one"
        )
    if resampling < 1:
        raise ReverieError(f"resampling = {resampling}: a step is taken at least once")
    if nfe < 1:
        raise ReverieError(f"nfe = {nfe}: a sample takes at least 1 network function evaluation")
    settle = chain(project)
    with jax.ensure_compile_time_eval():
        rows = table(process, solver, nfe, schedule, start)
        rows, again = repeated(rows, resampling, resampling_time)

    def evaluate(carry, inputs):
        x, memory = carry
        row, index, repeat = inputs
        before, remembered = carry
        fresh = jnp.zeros_like(x)
        if solver.noisy:
            fresh = noise_temperature * jax.random.normal(jax.random.fold_in(noise_key, index), shape)
        if solver.churn:
            ratio, variance = transition(row.origin, row.start)
            raised = ratio * x + jnp.sqrt(variance) * solver.churn_noise * fresh
            x = jnp.where((row.stage == 0) & (row.start.t > row.origin.t), raised, x)
        x = guide(x, row) if guide else x
        x0 = denoiser(x, row.level.t)
        x0 = x0 if clip_x0 is None else jnp.clip(x0, *clip_x0)
        x, memory = solver.step(row, x, x0, fresh, memory)
        x = x if clip_x is None else jnp.clip(x, *clip_x)
        x = settle(shield(before, x, row) if shield else x, row.end.t)
        if resampling > 1:
            ratio, variance = transition(row.end, row.origin)
            fresh = jax.random.normal(jax.random.fold_in(noise_key, len(again) + index), shape)
            back = settle(ratio * x + jnp.sqrt(variance) * fresh, row.origin.t)
            x, memory = jax.tree.map(partial(jnp.where, repeat), (back, remembered), (x, memory))
        return (x, memory), (x if history else None)

    first_key, noise_key = jax.random.split(key)
    x = temperature * (jax.random.normal(first_key, shape) if noise is None else noise)
    t_start = rows.origin.t[0]
    x = process.prior_scale * x if warm_start is None else process.perturb(warm_start, t_start, x)
    x = settle(x, t_start)
    (x, _), past = jax.lax.scan(evaluate, (x, solver.memory(x)), (rows, np.arange(len(again)), again))
    return (x, past) if history else x
