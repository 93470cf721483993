"""Exact log-likelihood by the probability-flow ODE."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from reverie.diffusion.process import Process, velocity
from reverie.diffusion.schedules import timesteps
from reverie.errors import ReverieError


def log_likelihood(
    process: Process,
    denoiser: Callable,
    x0,
    *,
    steps: int = 100,
    schedule: str = "log-snr",
    key=None,
    probes: int = 0,
):
    """log p(x0) in nats, [B], for x0 [B, ...], by the instantaneous change of variables (Song et al. 2021, eq. 39).

    Integrates dx/dt and the divergence from t_min to t_max with `steps` steps of Heun's method, which makes 2 * steps
    network function evaluations (NFE), each with its divergence: exact (a Jacobian-vector product a dimension) if
    `probes` is 0, else Hutchinson's unbiased estimate with that many Rademacher probes drawn from `key`. The data is
    taken to be at t_min, and the prior to be N(0, prior_scale^2): errors of order sigma(t_min)^2 and alpha(t_max)^2.
    """
    if probes and key is None:
        raise ReverieError(f"probes = {probes} needs a key to draw them from")
    # At alpha = 0 the log-SNR is infinite; schedules that use it stop just short of there.
    times = timesteps(process, steps + 1, schedule)[::-1].copy()
    levels = process.level(times)
    shape, size = x0.shape, x0[0].size
    x = process.perturb(x0, levels.t[0], 0.0).reshape(len(x0), size)
    if probes:
        directions = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
    else:
        directions = jnp.broadcast_to(jnp.eye(size)[:, None], (size, *x.shape))

    def flow(x, level):
        def field(x):
            return velocity(level, x, denoiser(x.reshape(shape), level.t).reshape(x.shape))

        def along(direction):
            v, derivative = jax.jvp(field, (x,), (direction,))
            return v, (direction * derivative).sum(-1)

        v, products = jax.lax.map(along, directions)
        return v[0], products.mean(0) if probes else products.sum(0)

    def step(carry, levels):
        x, total = carry
        start, end = levels
        h = end.t - start.t
        v, divergence = flow(x, start)
        w, other = flow(x + h * v, end)
        return (x + h / 2 * (v + w), total + h / 2 * (divergence + other)), None

    pairs = jax.tree.map(lambda leaf: leaf[:-1], levels), jax.tree.map(lambda leaf: leaf[1:], levels)
    (x, total), _ = jax.lax.scan(step, (x, jnp.zeros(len(x0))), pairs)
    prior = jax.scipy.stats.norm.logpdf(x, scale=process.prior_scale).sum(-1)
    return prior + total + size * jnp.log(levels.alpha[0])
