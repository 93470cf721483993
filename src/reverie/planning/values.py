"""Values of windows: what they learn, from which returns, and the choice among plans by them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from reverie.data import Dataset, Gaussian, rewards_to_go
from reverie.diffusion import Process


def return_units(data: Dataset, discount: float, termination_penalty: float) -> Gaussian:
    """Standard units of the data's discounted returns to go."""
    return Gaussian.fit(rewards_to_go(data, discount, termination_penalty)[:, None])


def noisy_value_loss(process: Process, net, x, returns, key, project=None) -> jax.Array:
    """Mean squared error of `net(x_t, time feature)` `[B]` against the returns `[B]`, for windows x `[B, H, D]` noised
    as the denoiser's are, `project(x, t)` and all (Janner et al. 2022, section 3.2)."""
    noisy, t, _ = process.noised(key, x)
    noisy = project(noisy, t) if project else noisy
    return jnp.square(net(noisy, process.time_feature(t)) - returns).mean()


def restoration_gaps(process: Process, denoiser: Callable, x, t, key, draws: int = 4) -> jax.Array:
    """How far plans `[..., H, D]` are from the denoiser's x0_hat of them noised to time t: the mean square, over
    `draws` of noise, `[...]`. What the data never do is not restored.

    Lee, Kim & Choi 2023, "Refining Diffusion Planner for Reliable Behavior Synthesis by Automatic Detection of
    Infeasible Plans"; there a whole chain restores the plan, here one evaluation.
    """

    def gap(key):
        noisy = process.perturb(x, t, jax.random.normal(key, x.shape))
        return jnp.square(denoiser(noisy, t) - x).mean((-2, -1))

    return jax.lax.map(gap, jax.random.split(key, draws)).mean(0)


def best_plans(plans, values) -> jax.Array:
    """Of the plans `[n, N, H, D]` those of the largest values `[n, N]`: `[n, H, D]`."""
    return jnp.take_along_axis(plans, values.argmax(1)[:, None, None, None], 1)[:, 0]
