"""Implicit Q-learning (Kostrikov, Nair & Levine 2022, "Offline Reinforcement Learning with Implicit Q-Learning")."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx
import jax

from reverie.configs import Hidden
from reverie.data import Spec
from reverie.learning import Optimised
from reverie.rl import ChosenStatistic, ImplicitCritic, ImplicitQ, NormalActor, advantage_weighted_loss
from reverie.settings import NonNegative


class State(eqx.Module):
    actor: Optimised
    critic: ImplicitCritic


@dataclass(frozen=True)
class ImplicitRegression(Hidden, ImplicitQ):
    """Implicit Q-learning with a Gaussian by advantage-weighted regression, whatever statistic V is."""

    role: ClassVar = "baseline"

    inverse_temperature: NonNegative = 3.0
    """How strongly the advantage weighs the actions in the regression."""
    largest_weight: NonNegative = 100.0
    """Bound on exp(inverse temperature * advantage)."""

    def init(self, key, spec: Spec) -> State:
        actor_key, critic_key = jax.random.split(key)
        actor = NormalActor(actor_key, spec.observation_dim, spec.action_dim, hidden=self.hidden)
        return State(Optimised.create(actor, self.optimiser), self.init_implicit(critic_key, spec))

    def update(self, state: State, batch, key):
        """V, then the actor (eq. 7), then Q, as in the released code."""
        critic, metrics = self.learn_v(state.critic, batch)
        advantage = critic.advantage(batch["observations"], batch["actions"])
        scaled = (self.inverse_temperature * advantage, self.largest_weight)
        actor, error = state.actor.minimise(
            lambda net: advantage_weighted_loss(net(batch["observations"]), batch["actions"], *scaled), self.optimiser
        )
        critic, more = self.learn_implicit_q(critic, batch)
        return State(actor, critic), metrics | more | {"actor_loss": error, "advantage": advantage.mean()}

    def choose(self, state, spec, observation, key):
        return state.actor.params(observation).mode


@dataclass(frozen=True)
class IQL(ChosenStatistic, ImplicitRegression):
    """IQL: an expectile of Q over the data's actions, and a Gaussian by advantage-weighted regression."""

    name: ClassVar = "iql"
    paper: ClassVar = "Kostrikov et al. 2022"
