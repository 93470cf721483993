"""SAC (Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications"), with a temperature that tunes itself."""

from dataclasses import dataclass, replace
from typing import ClassVar

import equinox as eqx
import jax

from reverie.data import Spec
from reverie.rl import Critic, SoftActor, SoftActorCritic
from reverie.settings import Acting


class State(eqx.Module):
    actor: SoftActor
    critic: Critic


@dataclass(frozen=True)
class SAC(SoftActorCritic):
    """SAC: Q with an entropy bonus, and a squashed Gaussian that maximises it. On a fixed data set it diverges."""

    name: ClassVar = "sac"
    role: ClassVar = "baseline"
    paper: ClassVar = "Haarnoja et al. 2018"

    stochastic: Acting[bool] = False
    """Whether to act by a sample of the policy, as in training, or by its mode."""

    @property
    def exploring(self) -> "SAC":
        """How it acts while it collects data."""
        return replace(self, stochastic=True)

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        return State(self.init_actor(actor_key, spec), self.init_critic(critic_key, spec))

    def update(self, state: State, batch, key):
        next_key, actor_key = jax.random.split(key)
        s = batch["next_observations"]
        action, log_prob = state.actor.policy.params(s).sample_and_log_prob(next_key)
        next_value = state.critic.target(s, action).min(0) - state.actor.temperature * log_prob
        critic, metrics = self.learn_q(state.critic, batch, next_value)
        actor, more = self.learn_actor(state.actor, critic.online.params, batch, actor_key)
        return State(actor, critic), metrics | more

    def choose(self, state, spec, observation, key):
        policy = state.actor.policy.params(observation)
        return policy.sample_and_log_prob(key)[0] if self.stochastic else policy.mode
