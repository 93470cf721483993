"""Planners of windows that are Gaussian, whose denoiser is known: nothing is trained, and little compiled."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.planners import DecisionDiffuser

VARIANCE = 0.01
SMALL = DecisionDiffuser(
    horizon=2, width=8, multipliers=(4,), diffusion_steps=5, hidden=(8,), labels=("skill",), temperature=1.0
)
"""Of observations of two numbers, and a label of two values."""


class Windows(eqx.Module):
    """In the place of the network: windows are N(mean, v), and what they are told moves the mean."""

    mean: jax.Array
    """`[observation]`."""
    told: jax.Array
    """Of every number of a condition: `[size + 1, observation]`."""
    size: int = eqx.field(static=True)

    def __call__(self, x, feature, condition):
        t = (feature + 1) / SMALL.diffusion_steps
        alpha, sigma = SMALL.process.alpha(t), SMALL.process.sigma(t)
        mean = self.mean + (condition @ self.told)[..., None, :]
        x0 = mean + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x - alpha * mean)
        return (x - alpha * x0) / sigma


def state_of(algorithm, spec, seed=0):
    """Of no training: random numbers, without compiling what draws them."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda spec: algorithm.init(jax.random.key(0), spec), spec)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes)


def gaussian(state, mean=(0.0, 0.0), told=0.1):
    """The state with windows that are N(mean, v), and `told` further in both numbers for every condition."""
    size = state.denoiser_ema.size
    lead = () if state.step.ndim == 0 else state.step.shape
    net = Windows(jnp.array(mean), jnp.full((size + 1, 2), told), size)
    return replace(state, denoiser_ema=jax.tree.map(lambda x: jnp.broadcast_to(x, (*lead, *x.shape)), net))
