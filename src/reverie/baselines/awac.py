"""AWAC (Nair et al. 2020, "Accelerating Online Reinforcement Learning with Offline Datasets")."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.learning import Optimised
from reverie.rl import ActorCritic, Critic, NormalActor, advantage_weighted_loss
from reverie.settings import NonNegative, Positive


class State(eqx.Module):
    actor: Optimised
    critic: Critic


@dataclass(frozen=True)
class AWAC(Hidden, ActorCritic):
    """AWAC: Q of the policy itself, and a Gaussian by advantage-weighted regression."""

    name: ClassVar = "awac"
    role: ClassVar = "baseline"
    paper: ClassVar = "Nair et al. 2020"

    temperature: Positive = 1 / 3
    """Lambda: the advantage in its units weighs the actions in the regression."""
    largest_weight: NonNegative = 100.0
    """Bound on exp(advantage / temperature)."""

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        actor = NormalActor(actor_key, spec.observation_dim, spec.action_dim, hidden=self.hidden)
        return State(Optimised.create(actor, self.optimiser), self.init_critic(critic_key, spec))

    def update(self, state: State, batch, key):
        next_key, value_key = jax.random.split(key)
        s, policy = batch["observations"], state.actor.params
        next_actions = jnp.clip(policy(batch["next_observations"]).sample(next_key), -1, 1)
        next_value = state.critic.target(batch["next_observations"], next_actions).min(0)
        critic, metrics = self.learn_q(state.critic, batch, next_value)

        q = critic.online.params
        value = q(s, jnp.clip(policy(s).sample(value_key), -1, 1)).min(0)
        advantage = q(s, batch["actions"]).min(0) - value
        scaled = (advantage / self.temperature, self.largest_weight)
        actor, error = state.actor.minimise(
            lambda net: advantage_weighted_loss(net(s), batch["actions"], *scaled), self.optimiser
        )
        return State(actor, critic), metrics | {"actor_loss": error, "advantage": advantage.mean()}

    def choose(self, state, spec, observation, key):
        return state.actor.params(observation).mode
