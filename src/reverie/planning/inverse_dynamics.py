"""Actions from states: what a planner of states alone executes its plans by (Ajay et al. 2023, section 4.2)."""

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.networks import MLP
from reverie.networks.layers import concatenate


class InverseDynamics(eqx.Module):
    """The action that leads from s to s': `[..., observation]`, `[..., observation] -> [..., action]`."""

    net: MLP

    def __init__(self, key, observation_dim: int, action_dim: int, *, hidden: tuple[int, ...] = (256, 256)):
        self.net = MLP(key, 2 * observation_dim, action_dim, hidden=hidden, activation=jax.nn.relu)

    def __call__(self, observation, next_observation) -> jax.Array:
        return self.net(concatenate(observation, next_observation))

    def loss(self, observations, actions, mask=None) -> jax.Array:
        """Mean squared error over all pairs of rows of windows `[..., H, observation]`, with the actions
        `[..., H, action]` of their first rows; `mask` `[..., H]` is 1 in the episode. A scalar."""
        error = jnp.square(self(observations[..., :-1, :], observations[..., 1:, :]) - actions[..., :-1, :]).mean(-1)
        if mask is None:
            return error.mean()
        valid = mask[..., 1:] * mask[..., :-1]
        return (valid * error).sum() / jnp.maximum(valid.sum(), 1)
