"""Solvers: how x gets from one noise level to the next, given x0_hat. `SOLVERS` names them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.diffusion.process import Level, noise_of, velocity
from reverie.errors import ReverieError


class Row(NamedTuple):
    """One network function evaluation on the way from the noise level `start` to `end`: at start (stage 0) or end (1).

    `origin` is the schedule's own level, from which EDM's churn raises x to start; for the other solvers they are one.
    `extrapolation` is h/(2 h_previous) in log-SNR, for two-step methods; 0 in the first and in the last step.
    """

    origin: Level
    start: Level
    end: Level
    extrapolation: Any
    stage: Any

    @property
    def level(self) -> Level:
        """The noise level of x at this evaluation."""
        return jax.tree.map(lambda a, b: jnp.where(self.stage == 0, a, b), self.start, self.end)

    @property
    def transition_variance(self):
        """Variance of x_start given x_end in the forward process: "beta" in the discrete papers' words."""
        return transition(self.end, self.start)[1]

    @property
    def posterior_variance(self):
        """Variance of x_end given x_start and x0 (Ho et al. 2020, eq. 7): "fixed small"."""
        return self.transition_variance * (self.end.sigma / self.start.sigma) ** 2


def transition(clean: Level, noisy: Level):
    """Scale and variance of x_noisy given x_clean in the forward process."""
    ratio = noisy.alpha / jnp.maximum(clean.alpha, 1e-12)
    return ratio, jnp.maximum(noisy.sigma**2 - (ratio * clean.sigma) ** 2, 0)


@dataclass(frozen=True)
class Solver:
    """How x moves, given x0_hat: `step(row, x, x0, noise, memory) -> (x, memory)`; `memory(x)` is what it starts with.

    `stages` is the number of network function evaluations (NFE) a step. With two, the last step takes one, and so does
    the first where the NFE are even in number, so that any number can be asked for. `noisy` says whether noise is used.
    `churn(log_snr) -> log_snr` of the same shape raises the noise before each step.
    """

    step: Callable
    memory: Callable = lambda x: ()
    stages: int = 1
    noisy: bool = True
    churn: Callable | None = None
    churn_noise: float = 1.0


def posterior(row: Row, x, x0, variance: str = "posterior"):
    """Mean and standard deviation of x_end given x_start = x and x0 (Ho et al. 2020, eq. 6-7), or with the larger
    "beta" variance; exactly x0 in the step that ends at the data."""
    start, end = row.start, row.end
    mean = start.alpha / end.alpha * (end.sigma / start.sigma) ** 2 * x
    mean += end.alpha * row.transition_variance / start.sigma**2 * x0
    spread = row.posterior_variance if variance == "posterior" else row.transition_variance
    return mean, jnp.where(end.sigma > 0, jnp.sqrt(spread), 0)


def ddpm(variance: str = "posterior") -> Solver:
    """Ancestral sampling (Ho et al. 2020, eq. 6-7) with the "posterior" variance or the larger "beta"."""
    if variance not in ("posterior", "beta"):
        raise ReverieError(f"variance {variance!r} is unknown; choose posterior or beta")

    def step(row, x, x0, noise, memory):
        mean, std = posterior(row, x, x0, variance)
        return mean + std * noise, memory

    return Solver(step)


def ddim(eta: float = 0.0) -> Solver:
    """Song, Meng & Ermon (2021), eq. 12: deterministic at eta = 0, ancestral sampling at eta = 1."""

    def step(row, x, x0, noise, memory):
        spread = eta**2 * row.posterior_variance
        towards = jnp.sqrt(jnp.maximum(row.end.sigma**2 - spread, 0))
        eps = noise_of(row.start, x, x0)
        return row.end.alpha * x0 + towards * eps + jnp.sqrt(spread) * noise, memory

    return Solver(step, noisy=eta > 0)


def _to_data(row: Row, x, x0):
    """x, but x0_hat in the step that ends at the data: there derivatives by t are singular, and x0_hat is the limit."""
    return jnp.where(row.end.sigma > 0, x, x0)


def flow_step(row: Row, x, x0):
    """Euler's step along the probability flow, in the process's own time."""
    return x + (row.end.t - row.start.t) * velocity(row.start, x, x0)


def euler() -> Solver:
    """Euler's method on the probability flow, in the process's own time."""

    def step(row, x, x0, noise, memory):
        return _to_data(row, flow_step(row, x, x0), x0), memory

    return Solver(step, noisy=False)


def heun(**churn) -> Solver:
    """Heun's second-order method on the probability flow, in the process's own time."""

    def step(row, x, x0, noise, memory):
        origin, slope = memory
        h = row.end.t - row.start.t
        # No second evaluation is made at the data; a sigma of 1 there keeps its unused branch and its gradient finite.
        end = row.end._replace(sigma=jnp.where(row.end.sigma > 0, row.end.sigma, 1))
        first, second = velocity(row.start, x, x0), velocity(end, x, x0)
        predict = row.stage == 0
        moved = jnp.where(predict, _to_data(row, x + h * first, x0), origin + h / 2 * (slope + second))
        return moved, (jnp.where(predict, x, origin), jnp.where(predict, first, slope))

    return Solver(step, lambda x: (x, jnp.zeros_like(x)), **({"stages": 2, "noisy": False} | churn))


def edm_churn(churn=80.0, minimum=0.05, maximum=50.0, noise_scale=1.003) -> Solver:
    """Karras et al. (2022), algorithm 2: the noise is raised before each step of Heun's method.

    The arguments are S_churn, S_tmin, S_tmax (of sigma/alpha) and S_noise. Unlike there, noise is never raised
    beyond the process's t_max.
    """

    def raised(log_snr):
        noise = np.exp(-log_snr)
        gamma = min(churn / len(noise), math.sqrt(2) - 1)
        return log_snr - np.where((noise >= minimum) & (noise <= maximum), math.log1p(gamma), 0)

    return heun(noisy=True, churn=raised, churn_noise=noise_scale)


def euler_maruyama() -> Solver:
    """Euler-Maruyama on the reverse-time SDE (Song et al. 2021, eq. 6), in the process's own time."""

    def step(row, x, x0, noise, memory):
        start, h = row.start, row.end.t - row.start.t
        drift = velocity(start, x, x0) + start.rate / 2 / start.sigma * noise_of(start, x, x0)
        return _to_data(row, x + h * drift + jnp.sqrt(-h * start.rate) * noise, x0), memory

    return Solver(step)


def predictor_corrector(predictor: Solver | None = None, snr: float = 0.16) -> Solver:
    """A step of the predictor, then one of Langevin dynamics at the level reached (Song et al. 2021, alg. 2 and 3).

    The predictor is a one-stage solver without memory; Euler-Maruyama unless given. Langevin's step size is
    2 (snr |noise|/|score|)^2, with root mean squares over the batch.
    """
    predict = (predictor or euler_maruyama()).step

    def step(row, x, x0, noise, memory):
        # No correction is made at the data; a sigma of 1 there keeps its unused branch and its gradient finite.
        end = row.end._replace(sigma=jnp.where(row.end.sigma > 0, row.end.sigma, 1))
        score = -noise_of(end, x, x0) / end.sigma
        size = 2 * snr**2 * jnp.mean(noise**2) / jnp.maximum(jnp.mean(score**2), 1e-12)
        corrected = x + size * score + jnp.sqrt(2 * size) * noise
        return jnp.where(row.stage == 0, predict(row, x, x0, noise, memory)[0], corrected), memory

    return Solver(step, stages=2)


def dpm_solver_pp(order: int = 2, sde: bool = False) -> Solver:
    """DPM-Solver++ with one evaluation a step (Lu et al. 2022): first order, or the two-step method "2M"; ODE or SDE.

    The first and the last step are of first order: before the first there is no history, and the last ends at
    infinite log-SNR.
    """
    if order not in (1, 2):
        raise ReverieError(f"order {order} of DPM-Solver++ is not here; choose 1 or 2")

    def step(row, x, x0, noise, previous):
        start, end = row.start, row.end
        kept = jnp.exp(start.log_snr - end.log_snr)
        estimate = x0 + (row.extrapolation * (x0 - previous) if order == 2 else 0)
        if not sde:
            return end.sigma / start.sigma * x + end.alpha * (1 - kept) * estimate, x0
        x = end.sigma / start.sigma * kept * x + end.alpha * (1 - kept**2) * estimate
        return x + end.sigma * jnp.sqrt(1 - kept**2) * noise, x0

    return Solver(step, jnp.zeros_like, noisy=sde)


SOLVERS = {
    "ddpm": ddpm(),
    "ddpm-beta": ddpm("beta"),
    "ddim": ddim(),
    "euler": euler(),
    "heun": heun(),
    "euler-maruyama": euler_maruyama(),
    "edm-churn": edm_churn(),
    "dpm++2m": dpm_solver_pp(),
    "dpm++2m-sde": dpm_solver_pp(sde=True),
    "predictor-corrector": predictor_corrector(),
}
