"""Soft actor-critic's actor and temperature (Haarnoja et al. 2018), which CQL shares."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.learning import Optimised

from .actors import TanhNormalActor
from .critics import ActorCritic, QNetwork, minimum


class SoftActor(eqx.Module):
    """The squashed Gaussian, and the logarithm of the temperature that weighs its entropy."""

    policy: Optimised
    log_temperature: Optimised

    @property
    def temperature(self) -> jax.Array:
        return jnp.exp(self.log_temperature.params)


@dataclass(frozen=True)
class SoftActorCritic(Hidden, ActorCritic):
    """A policy that maximises Q and keeps an entropy."""

    target_entropy: float | None = None
    """Which the temperature keeps the policy's at, in nats of the whole action where its bounds are -1 and 1; none for
    minus one a dimension of the action (appendix D)."""
    critic_layer_norm: bool = False
    """Whether the critics' hidden layers are normalised. What they say far from the data, CQL's penalty bounds, and
    SAC's next steps correct."""

    def init_actor(self, key, spec: Spec, hidden: tuple[int, ...] | None = None) -> SoftActor:
        net = TanhNormalActor(key, spec.observation_dim, spec.action_dim, hidden=hidden or self.hidden)
        policy = Optimised.create(net, self.optimiser)
        return SoftActor(policy, Optimised.create(jnp.zeros(()), self.optimiser))

    def learn_actor(self, actor: SoftActor, q: QNetwork, batch, key) -> tuple[SoftActor, dict[str, Any]]:
        """A step up Q + temperature * entropy, and one of the temperature towards the wanted entropy (section 5)."""
        observation, action_dim = batch["observations"], batch["actions"].shape[-1]
        wanted = -action_dim if self.target_entropy is None else self.target_entropy

        def loss(net):
            action, log_prob = net(observation).sample_and_log_prob(key)
            return (actor.temperature * log_prob - self.actor_value(q(observation, action))).mean(), log_prob.mean()

        (value, log_prob), gradient = jax.value_and_grad(loss, has_aux=True)(actor.policy.params)
        policy = actor.policy.apply(gradient, self.optimiser)
        surplus = jax.lax.stop_gradient(-log_prob - wanted)
        log_temperature, _ = actor.log_temperature.minimise(lambda log_t: log_t * surplus, self.optimiser)
        metrics = {"actor_loss": value, "entropy": -log_prob, "temperature": actor.temperature}
        return SoftActor(policy, log_temperature), metrics

    def actor_value(self, values) -> jax.Array:
        """What the actor maximises of the critics' values `[n, B]`: `[B]`."""
        return minimum(values)
