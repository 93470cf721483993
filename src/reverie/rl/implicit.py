"""Implicit Q-learning: V(s) as a statistic of Q over the data's own actions, so that no other is ever asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec
from reverie.learning import Optimised
from reverie.networks import MLP
from reverie.settings import Limit

from .critics import ActorCritic, Critic


class ImplicitLoss(NamedTuple):
    """A convex loss f of u = Q - V whose minimum over V is the statistic, by a parameter p.

    `weight(u, p)` is |f'(u)| / |u|: the policy for which that V is the expectation of Q (IDQL, theorem 4.1).
    """

    loss: Callable
    weight: Callable


def _asymmetry(u, p):
    return jnp.where(u > 0, p, 1 - p)


def _away_from_zero(u):
    return jnp.where(jnp.abs(u) < 1e-6, 1e-6, u)


def _bounded_exp(z):
    """exp, continued by its tangent beyond 7, so that neither it nor its gradient overflows (XQL clips there)."""
    return jnp.where(z < 7, jnp.exp(jnp.minimum(z, 7)), jnp.exp(7.0) * (z - 6))


IMPLICIT_LOSSES = {
    # p in (0, 1): the p-expectile; the mean at 1/2, the maximum as p goes to 1 (Kostrikov et al. 2022, eq. 5).
    "expectile": ImplicitLoss(lambda u, p: _asymmetry(u, p) * u**2, _asymmetry),
    # p in (0, 1): the p-quantile; the median at 1/2. The released code divides by u itself, with its sign.
    "quantile": ImplicitLoss(
        lambda u, p: _asymmetry(u, p) * jnp.abs(u), lambda u, p: _asymmetry(u, p) / jnp.abs(_away_from_zero(u))
    ),
    # p > 0: log E exp(p Q) / p, the soft maximum (Garg et al. 2023 with p = 1/beta; IDQL, eq. 9).
    "exponential": ImplicitLoss(
        lambda u, p: _bounded_exp(p * u) - p * u,
        lambda u, p: p * jnp.expm1(jnp.minimum(p * _away_from_zero(u), 7)) / _away_from_zero(u),
    ),
}


class ImplicitCritic(eqx.Module):
    """Q, its target, and V."""

    q: Critic
    v: Optimised

    def advantage(self, observation, action) -> jax.Array:
        """min Q(s, a) - V(s): `[...]`."""
        return self.q.target(observation, action).min(0) - self.v.params(observation)[..., 0]


@dataclass(frozen=True)
class ImplicitQ(ActorCritic):
    """The critics of implicit Q-learning. An algorithm adds `v_loss`, or takes `ChosenStatistic`'s."""

    v_layer_norm: bool = False
    """Whether V's hidden layers are normalised. IQL's and IDQL's are not: V is asked of the data's states alone."""

    def init_implicit(self, key, spec: Spec) -> ImplicitCritic:
        q_key, v_key = jax.random.split(key)
        sizes: Any = {"hidden": self.critic_hidden, "activation": self.activation, "layer_norm": self.v_layer_norm}
        v = MLP(v_key, spec.observation_dim, 1, **sizes)
        return ImplicitCritic(self.init_critic(q_key, spec), Optimised.create(v, self.critic_optimiser))

    def v_loss(self, u) -> jax.Array:
        """Of u = Q - V `[B]`: a scalar."""
        raise NotImplementedError

    def learn_v(self, critic: ImplicitCritic, batch) -> tuple[ImplicitCritic, dict[str, Any]]:
        """V towards the statistic of the target Q (eq. 5)."""
        s, q = batch["observations"], critic.q.target(batch["observations"], batch["actions"]).min(0)
        v, error = critic.v.minimise(lambda v: self.v_loss(q - v(s)[..., 0]), self.critic_optimiser)
        return ImplicitCritic(critic.q, v), {"v_loss": error}

    def learn_implicit_q(self, critic: ImplicitCritic, batch) -> tuple[ImplicitCritic, dict[str, Any]]:
        """Q towards r + discount V(s') (eq. 6)."""
        q, metrics = self.learn_q(critic.q, batch, critic.v.params(batch["next_observations"])[..., 0])
        return ImplicitCritic(q, critic.v), metrics


@dataclass(frozen=True)
class ChosenStatistic(ImplicitQ):
    """Implicit Q-learning with a choice of the statistic that V is."""

    implicit_loss: Literal["expectile", "quantile", "exponential"] = "expectile"
    """Which statistic of Q over the data's actions V is."""
    expectile: Annotated[float, Limit(1e-6, 1 - 1e-6)] = 0.7
    """Of that loss, or, for the quantile loss, the quantile: in (0, 1)."""
    beta: Annotated[float, Limit(1e-6, 1e6)] = 1.0
    """Temperature of the exponential loss, in Q's units."""

    @property
    def statistic(self) -> float:
        """The parameter p of the loss."""
        return 1 / self.beta if self.implicit_loss == "exponential" else self.expectile

    def v_loss(self, u) -> jax.Array:
        """Of u = Q - V `[B]`: a scalar."""
        return IMPLICIT_LOSSES[self.implicit_loss].loss(u, self.statistic).mean()
