"""The path between data (t = 0) and noise (t = 1), and what a network predicts along it.

A process is x_t = alpha(t) x0 + sigma(t) eps with eps ~ N(0, I). Everything else follows from alpha and sigma: the
probability-flow velocity alpha' x0 + sigma' eps, the forward diffusion g^2 = 2 sigma sigma' - 2 (alpha'/alpha) sigma^2,
the log signal-to-noise ratio log(alpha / sigma). So a new noise schedule is one row of `PROCESSES`, and a new way for
the network to express its answer one row of `PREDICTIONS`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.diffusion.hooks import Hooks, chain
from reverie.diffusion.schedules import SCHEDULES
from reverie.errors import ReverieError

Array = jax.Array
Time = Callable[[Array], Array]


def expand(coefficient, x):
    """Append axes to a coefficient of a leading batch shape (or a scalar), so that it multiplies x."""
    coefficient = jnp.asarray(coefficient)
    return coefficient.reshape(coefficient.shape + (1,) * (x.ndim - coefficient.ndim))


class Level(NamedTuple):
    """A process at one time. `log_snr` is log(alpha/sigma), `rate` is g^2; the `d_` are derivatives by t."""

    t: Any
    alpha: Any
    sigma: Any
    log_snr: Any
    d_alpha: Any
    d_sigma: Any
    rate: Any


DATA = Level(0.0, 1.0, 0.0, np.inf, 0.0, 0.0, 0.0)
"""The end of every chain: the sample itself, without noise."""


@dataclass(frozen=True)
class Process:
    """A noising process, the network's prediction along it, and the times of training and of sampling."""

    alpha: Time
    """Scale of the data at times t of any shape."""
    sigma: Time
    """Standard deviation of the noise at times t."""
    t_min: float = 1e-3
    """The cleanest time that is sampled; the last evaluation goes from there to the data."""
    t_max: float = 1.0
    """The noisiest time that is sampled, where sampling starts."""
    steps: int | None = None
    """None for continuous time. Otherwise the times are 1/steps, 2/steps, ..., 1, in training and in sampling, and the
    network sees the index steps*t - 1."""
    prediction: str = "eps"
    """What the network outputs, by its name in `PREDICTIONS`."""
    schedule: str = "uniform"
    """The timestep schedule that suits the process when it is sampled, by its name in `SCHEDULES`."""
    sigma_data: float = 1.0
    """Standard deviation of the data, which the "edm" prediction scales by."""
    rate: Time | None = None
    """Replaces the forward process's g^2 in stochastic solvers where that is singular (any g^2 >= 0 leaves the
    marginals unchanged)."""
    feature: Time | None = None
    """What the network's time embedding sees of t; 1000 t unless given."""
    draw: Callable[[Array, tuple[int, ...]], Array] | None = None
    """Draws training times from a key, of a given shape; uniform on [t_min, t_max] unless given."""

    def __post_init__(self):
        if self.prediction not in PREDICTIONS:
            raise ReverieError(f"prediction {self.prediction!r} is unknown; choose one of {', '.join(PREDICTIONS)}")
        if self.schedule not in SCHEDULES:
            raise ReverieError(f"timestep schedule {self.schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}")
        if self.steps is not None and self.steps < 1:
            raise ReverieError(f"a process of {self.steps} steps has no time to train at; give steps >= 1 or None")
        with jax.ensure_compile_time_eval():
            if self.prediction == "eps" and not self.alpha(jnp.float32(self.t_max)) > 0:
                raise ReverieError(f"eps says nothing of x0 at t_max = {self.t_max}, where alpha is 0; predict another")

    def level(self, t) -> Level:
        """Every coefficient at times t (any shape), all of t's shape."""
        t = jnp.asarray(t, jnp.float32)
        (alpha, sigma), (d_alpha, d_sigma) = jax.jvp(
            lambda t: (self.alpha(t), self.sigma(t)), (t,), (jnp.ones_like(t),)
        )
        rate = self.rate(t) if self.rate else 2 * sigma * (d_sigma - d_alpha / alpha * sigma)
        return Level(t, alpha, sigma, self.log_snr(t), d_alpha, d_sigma, rate)

    def log_snr(self, t):
        return jnp.log(self.alpha(t)) - jnp.log(self.sigma(t))

    def time_of(self, log_snr) -> Array:
        """The times in [t_min, t_max] of given log signal-to-noise ratios, by bisection in log t."""
        low = jnp.full(jnp.shape(log_snr), math.log(self.t_min), jnp.float32)
        high = jnp.full(jnp.shape(log_snr), math.log(self.t_max), jnp.float32)
        for _ in range(40):
            middle = (low + high) / 2
            too_clean = self.log_snr(jnp.exp(middle)) > log_snr
            low, high = jnp.where(too_clean, middle, low), jnp.where(too_clean, high, middle)
        return jnp.exp((low + high) / 2)

    @property
    def prior_scale(self) -> float:
        """Standard deviation of the initial noise: that of x at t_max for data of unit variance.

        It is 1 for the variance-preserving rows, whatever signal is left at t_max, as the papers have it.
        """
        with jax.ensure_compile_time_eval():
            return float(jnp.hypot(self.alpha(jnp.float32(self.t_max)), self.sigma(jnp.float32(self.t_max))))

    def perturb(self, x0, t, eps):
        """x_t of shape x0, for times t of x0's leading batch shape (or a scalar)."""
        return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), x0) * eps

    def network(self, net, x, t, cond=None):
        """The network's raw output at x_t: input scaled, time turned into the feature that the embedding sees."""
        return net(x * expand(PREDICTIONS[self.prediction].scale(self, t), x), self.time_feature(t), cond)

    def denoise(self, net, x, t, cond=None):
        """x0_hat of x's shape from `net(x, feature, cond)`; t a scalar or of x's leading batch shape."""
        return PREDICTIONS[self.prediction].denoise(self, self.network(net, x, t, cond), x, t)

    def denoiser(self, net, cond=None):
        """The denoiser (x_t, t) -> x0_hat that samplers and guidance work with."""
        return lambda x, t: self.denoise(net, x, t, cond)

    def draw_times(self, key, shape) -> Array:
        """Training times: uniform over the steps, or over [t_min, t_max], or as the row says."""
        if self.steps is not None:
            return jax.random.randint(key, shape, 1, self.steps + 1) / self.steps
        if self.draw is not None:
            return self.draw(key, shape)
        return jax.random.uniform(key, shape, minval=self.t_min, maxval=self.t_max)

    def noised(self, key, x0) -> tuple[Array, Array, Array]:
        """x_t of x0's shape `[B, ...]` at training times t `[B]`, and the noise that is in it."""
        key_t, key_eps = jax.random.split(key)
        t, eps = self.draw_times(key_t, x0.shape[:1]), jax.random.normal(key_eps, x0.shape, x0.dtype)
        return self.perturb(x0, t, eps), t, eps

    def time_feature(self, t):
        if self.steps is not None:
            return self.steps * jnp.asarray(t) - 1
        return self.feature(t) if self.feature else 1000 * jnp.asarray(t)

    def loss(
        self,
        net,
        x0,
        key,
        cond=None,
        *,
        weight: Any = 1.0,
        mask=None,
        project: Hooks = None,
        penalty=jnp.square,
        regulariser: Callable | None = None,
    ) -> Array:
        """Denoising loss of each example, [B], for x0 [B, ...], in the units of the network's output.

        With ε it is L_simple (Ho et al. 2020, eq. 14); with the EDM preconditioning it is the paper's weighted loss
        (Karras et al. 2022, eq. 8), because lambda(sigma) c_out^2 = 1. Elements are averaged with `weight`
        (broadcastable to x0, or a function of the examples' times that gives `[B]`) and, where `mask` is given
        (likewise; 0 or 1), over the mask only. `project`, a hook (x, t) -> x or several in order, is applied to the
        noisy input, as inpainting needs. `penalty` is applied to the residual. `regulariser` gives what is added to
        the loss `[B]` from the prediction x0_hat, projected too.
        """
        noisy, t, eps = self.noised(key, x0)
        hold, how = chain(project), PREDICTIONS[self.prediction]
        x = hold(noisy, t)
        out = self.network(net, x, t, cond)
        residual = out - how.target(self, x0, eps, t)
        more = regulariser(hold(how.denoise(self, out, x, t), t)) if regulariser else 0.0
        weight = expand(weight(t), x0) if callable(weight) else weight
        error = jnp.broadcast_to(weight, x0.shape) * penalty(residual)
        axes = tuple(range(1, x0.ndim))
        if mask is None:
            return error.mean(axes) + more
        mask = jnp.broadcast_to(mask, x0.shape)
        return (mask * error).sum(axes) / jnp.maximum(mask.sum(axes), 1) + more


def noise_of(level: Level, x, x0):
    """The eps_hat that belongs to x0_hat. Re-derived from x0_hat, so that clipping x0_hat keeps the two consistent."""
    return (x - level.alpha * x0) / level.sigma


def velocity(level: Level, x, x0):
    """dx/dt of the probability flow at the noise level of x: alpha' x0_hat + sigma' eps_hat."""
    return level.d_alpha * x0 + level.d_sigma * noise_of(level, x, x0)


class Prediction(NamedTuple):
    """What the network outputs: its regression target, and x0_hat from its output. `scale` multiplies its input."""

    target: Callable
    denoise: Callable
    scale: Callable = lambda process, t: jnp.ones_like(jnp.asarray(t, jnp.float32))


def _slopes(process, t):
    level = process.level(t)
    return level.alpha, level.sigma, level.d_alpha, level.d_sigma


def _combine(x0, eps, a, b):
    return expand(a, x0) * x0 + expand(b, eps) * eps


def _velocity_target(process, x0, eps, t):
    _, _, d_alpha, d_sigma = _slopes(process, t)
    return _combine(x0, eps, d_alpha, d_sigma)


def _velocity_denoise(process, out, x, t):
    alpha, sigma, d_alpha, d_sigma = _slopes(process, t)
    scale = d_sigma * alpha - sigma * d_alpha
    return _combine(x, out, d_sigma / scale, -sigma / scale)


def _edm(process, t):
    """c_skip, c_out, c_in of Karras et al. (2022), table 1, for x_t / alpha at noise sigma / alpha, alpha cleared.

    Written this way they stay finite at alpha = 0 (pure noise).
    """
    alpha, sigma, data = process.alpha(t), process.sigma(t), process.sigma_data
    total = sigma**2 + (alpha * data) ** 2
    return data**2 * alpha / total, sigma * data / jnp.sqrt(total), 1 / jnp.sqrt(total)


def _edm_target(process, x0, eps, t):
    skip, out, _ = _edm(process, t)
    return _combine(x0, process.perturb(x0, t, eps), 1 / out, -skip / out)


def _edm_denoise(process, out, x, t):
    c_skip, c_out, _ = _edm(process, t)
    return _combine(x, out, c_skip, c_out)


PREDICTIONS = {
    "eps": Prediction(
        lambda p, x0, eps, t: eps,
        lambda p, out, x, t: _combine(x, out, 1 / p.alpha(t), -p.sigma(t) / p.alpha(t)),
    ),
    "x0": Prediction(lambda p, x0, eps, t: x0, lambda p, out, x, t: out),
    # Salimans & Ho (2022), appendix D, divided by alpha^2 + sigma^2 so that it also serves rows that are not VP.
    "v": Prediction(
        lambda p, x0, eps, t: _combine(x0, eps, -p.sigma(t), p.alpha(t)),
        lambda p, out, x, t: _combine(
            x,
            out,
            p.alpha(t) / (p.alpha(t) ** 2 + p.sigma(t) ** 2),
            -p.sigma(t) / (p.alpha(t) ** 2 + p.sigma(t) ** 2),
        ),
    ),
    "velocity": Prediction(_velocity_target, _velocity_denoise),
    "edm": Prediction(_edm_target, _edm_denoise, lambda p, t: _edm(p, t)[2]),
}
