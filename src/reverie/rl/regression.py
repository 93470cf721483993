"""Advantage-weighted regression (Peng et al. 2019): imitation in which better actions count for more."""

import jax
import jax.numpy as jnp


def exponential_weights(advantage, largest: float) -> jax.Array:
    """min(exp A, largest) for advantages A `[B]` in units of the temperature."""
    return jnp.minimum(jnp.exp(advantage), largest)


def weighted_log_likelihood(policy, actions, weights) -> jax.Array:
    """Minus the weighted mean of log pi(a|s), a scalar; `policy` is a distribution over actions `[B, action]`."""
    return -(weights * policy.log_prob(actions)).mean()


def advantage_weighted_loss(policy, actions, advantage, largest: float) -> jax.Array:
    """For a distribution over actions `[B, action]` and advantages `[B]` in units of the temperature, whose weights are
    no more than `largest`: a scalar."""
    return weighted_log_likelihood(policy, actions, jax.lax.stop_gradient(exponential_weights(advantage, largest)))
