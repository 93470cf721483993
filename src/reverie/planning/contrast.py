"""Contrast: predicted states are drawn to those of high return, and pushed from those of low return."""

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Dataset, rewards_to_go


def return_ranks(data: Dataset, discount: float, termination_penalty: float) -> np.ndarray:
    """For every step the share of the data's steps whose discounted return to go is lower, equals by half: float32
    `[N]` in (0, 1)."""
    from scipy.stats import rankdata  # whose import takes as long as JAX's

    returns = rewards_to_go(data, discount, termination_penalty)
    return ((rankdata(returns) - 0.5) / len(returns)).astype(np.float32)


def soft_threshold(rank, threshold: float, softness: float) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities, but for a constant, with which states of these ranks are drawn as high and as low: sigmoids
    of the distance from the threshold in units of `softness` (Shan et al. 2024, the fuzzy boundary)."""
    z = (rank - threshold) / softness
    return jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)


def contrastive_loss(states, high, low, temperature: float) -> jax.Array:
    """-log(p+ / (p+ + p-)) of states `[..., d]`, with p+- the mean of exp(-|s - s'|^2 / (d temperature)) over the K
    states s' of high return and over those of low, both `[K, d]`: `[...]`. InfoNCE with several positives."""

    def log_density(others):
        distance = jnp.square(states[..., None, :] - others).mean(-1)
        return jax.nn.logsumexp(-distance / temperature, -1) - jnp.log(len(others))

    return jax.nn.softplus(log_density(low) - log_density(high))
