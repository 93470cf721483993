"""Behaviour cloning by a diagonal Gaussian: maximum likelihood of the data's actions (Pomerleau 1991)."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx

from reverie.configs import Hidden
from reverie.data import Spec, pairs
from reverie.learning import Optimised
from reverie.rl import NormalActor, StepPolicy
from reverie.settings import Acting


class State(eqx.Module):
    actor: Optimised


@dataclass(frozen=True)
class BC(Hidden, StepPolicy):
    """Behaviour cloning: what Gaussian policies can know of the data's actions."""

    name: ClassVar = "bc"
    role: ClassVar = "baseline"
    paper: ClassVar = "Pomerleau 1991"
    view: ClassVar = staticmethod(pairs)

    stochastic: Acting[bool] = False
    """Whether to act by a sample of the Gaussian, or by its mean."""

    def init(self, key, spec: Spec) -> State:
        net = NormalActor(key, spec.observation_dim, spec.action_dim, per_state=True, hidden=self.hidden)
        return State(Optimised.create(net, self.optimiser))

    def update(self, state: State, batch, key):
        def loss(actor):
            return -actor(batch["observations"]).log_prob(batch["actions"]).mean()

        actor, value = state.actor.minimise(loss, self.optimiser)
        return State(actor), {"negative_log_likelihood": value}

    def choose(self, state, spec, observation, key):
        normal = state.actor.params(observation)
        return normal.sample(key) if self.stochastic else normal.mode
