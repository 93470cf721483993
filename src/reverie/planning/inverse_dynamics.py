"""Actions from states: what a planner of states alone executes its plans by (Ajay et al. 2023, section 4.2)."""

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.networks import MLP
from reverie.networks.layers import concatenate


class InverseDynamics(eqx.Module):
    """The action that leads from s to s': `[..., observation]`, `[..., observation] -> [..., action]`."""

    net: MLP
    target_dim: int = eqx.field(static=True)
    """Columns of s' that are told, the first."""

    def __init__(
        self,
        key,
        observation_dim: int,
        action_dim: int,
        *,
        hidden: tuple[int, ...] = (256, 256),
        target_dim: int | None = None,
    ):
        self.target_dim = observation_dim if target_dim is None else target_dim
        self.net = MLP(key, observation_dim + self.target_dim, action_dim, hidden=hidden, activation=jax.nn.relu)

    def __call__(self, observation, next_observation) -> jax.Array:
        return self.net(concatenate(observation, next_observation))

    def loss(self, observations, actions, mask=None) -> jax.Array:
        """Mean squared error over all pairs of rows of windows `[..., H, observation]`, with the actions
        `[..., H, action]` of their first rows; `mask` `[..., H]` is 1 in the episode. A scalar."""
        targets = observations[..., 1:, : self.target_dim]
        error = jnp.square(self(observations[..., :-1, :], targets) - actions[..., :-1, :]).mean(-1)
        if mask is None:
            return error.mean()
        valid = mask[..., 1:] * mask[..., :-1]
        return (valid * error).sum() / jnp.maximum(valid.sum(), 1)
