"""Timestep schedules: at which times a process is sampled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from reverie.errors import ReverieError

if TYPE_CHECKING:
    from reverie.diffusion.process import Process


def _karras(process, high, low, n):
    largest, smallest = (float(jnp.exp(-process.log_snr(jnp.float32(t)))) for t in (high, low))
    return process.time_of(-7 * np.log(np.linspace(largest ** (1 / 7), smallest ** (1 / 7), n)))


def _uniform_log_snr(process, high, low, n):
    first, last = (float(process.log_snr(jnp.float32(t))) for t in (high, low))
    return process.time_of(np.linspace(first, last, n))


SCHEDULES = {
    "uniform": lambda process, high, low, n: np.linspace(high, low, n),
    "quadratic": lambda process, high, low, n: np.linspace(math.sqrt(high), math.sqrt(low), n) ** 2,
    "karras": _karras,  # Karras et al. (2022), eq. 5, with rho = 7, on sigma/alpha
    "log-snr": _uniform_log_snr,
}


def timesteps(process: Process, n: int, schedule: str | None = None, start: float | None = None) -> np.ndarray:
    """n decreasing times, from `start` (t_max if None) to t_min; a discrete process's are among its own steps.

    schedule: a name in `SCHEDULES`; the process's own if None.

    Raises ReverieError where the schedule is unknown, n < 1, start is outside (0, 1], or n exceeds the discrete steps.
    """
    schedule = process.schedule if schedule is None else schedule
    if schedule not in SCHEDULES:
        raise ReverieError(f"timestep schedule {schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    high = process.t_max if start is None else start
    if n < 1 or not 0 < high <= 1:
        raise ReverieError(f"{n} steps from t = {high} is no schedule; give at least 1 step and a start in (0, 1]")
    if process.steps is None:
        if high < process.t_min or (n > 1 and high == process.t_min):
            raise ReverieError(f"start {high} is not above the process's t_min = {process.t_min}")
        low = process.t_min
    else:
        low, high = 1 / process.steps, max(round(high * process.steps), 1) / process.steps
        if n > round(high * process.steps):
            raise ReverieError(f"{n} sampling steps from t = {high:g} exceed the {round(high * process.steps)} there")
    # log-SNR has no finite value at pure noise (rectified flow at t = 1): start a hair below, then put the end back.
    finite = np.isfinite(process.log_snr(jnp.float32(high))) or schedule not in ("karras", "log-snr")
    times = np.array(SCHEDULES[schedule](process, high if finite else high - 1e-4, low, n), np.float64)
    times[0] = high
    if n > 1:
        times[-1] = low
    return times if process.steps is None else _whole_steps(times, process.steps)


def _whole_steps(times, steps):
    """Round to multiples of 1/steps, strictly decreasing."""
    index, n = np.round(times * steps).astype(int), len(times)
    index = np.maximum(index, np.arange(n, 0, -1))
    for i in range(1, n):
        index[i] = min(index[i], index[i - 1] - 1)
    return index / steps
