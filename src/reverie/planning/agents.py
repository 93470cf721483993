"""What planners of several agents share: the inverse dynamics of each."""

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data.agents import Team, columns
from reverie.planning.inverse_dynamics import InverseDynamics, mean_of_pairs


class JointInverseDynamics(eqx.Module):
    """Of A agents side by side, each by the same network: `[..., A * d]`, `[..., A * d] -> [..., A * action]`.

    An agent's action is found from its own states alone, and, with `identity`, from its number. Columns beyond an
    agent's own are neither read nor learned.
    """

    net: InverseDynamics
    team: Team = eqx.field(static=True)
    identity: bool = eqx.field(static=True)

    def __init__(self, key, team: Team, *, hidden: tuple[int, ...] = (256, 256), identity: bool = True):
        self.team, self.identity = team, identity and team.size > 1
        size, action = team.widths
        told = size + team.size * self.identity
        self.net = InverseDynamics(key, told, action, hidden=hidden, target_dim=size)

    def __call__(self, observation, next_observation) -> jax.Array:
        state, after = (self._agents(x, self.team.observations) for x in (observation, next_observation))
        if self.identity:
            who = jnp.broadcast_to(jnp.eye(self.team.size), (*state.shape[:-1], self.team.size))
            state = jnp.concatenate([state, who], -1)
        actions = self.net(state, after)
        return self._own_actions(actions.reshape(*actions.shape[:-2], -1))

    def loss(self, observations, actions, mask=None) -> jax.Array:
        """As `InverseDynamics.loss`, of windows `[..., H, A * d]`."""
        wanted = self._own_actions(actions[..., :-1, :])
        error = jnp.square(self(observations[..., :-1, :], observations[..., 1:, :]) - wanted).mean(-1)
        return mean_of_pairs(error, mask)

    def _agents(self, x, sizes: tuple[int, ...]) -> jax.Array:
        """`[..., A * d] -> [..., A, d]`, 0 beyond an agent's own columns."""
        x = x.reshape(*x.shape[:-1], self.team.size, -1)
        return jnp.where(columns(sizes, x.shape[-1]), x, 0)

    def _own_actions(self, actions) -> jax.Array:
        """`[..., A * action]`, 0 beyond an agent's own columns."""
        return self._agents(actions, self.team.actions).reshape(actions.shape)
