"""Behaviour cloning by a diffusion model of the actions (Diffusion-QL's without Q; Pearce et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar

import equinox as eqx

from reverie.data import Spec, pairs
from reverie.learning import Optimised
from reverie.rl import BackboneActor


class State(eqx.Module):
    actor: Optimised


@dataclass(frozen=True)
class DiffusionBC(BackboneActor):
    """Behaviour cloning by diffusion: all of the data's ways to act, in their proportions."""

    name: ClassVar = "diffusion-bc"
    paper: ClassVar = "Wang et al. 2023; Pearce et al. 2023"
    view: ClassVar = staticmethod(pairs)

    def init(self, key, spec: Spec) -> State:
        return State(Optimised.create(self.network(key, spec), self.optimiser))

    def update(self, state: State, batch, key):
        actor, loss = state.actor.minimise(lambda net: self.denoising_loss(net, batch, key).mean(), self.optimiser)
        return State(actor), {"diffusion_loss": loss}

    def behaviour_network(self, state: State):
        return state.actor.params

    def choose(self, state, spec, observation, key):
        return self.sample(state.actor.params, observation, key, (*observation.shape[:-1], spec.action_dim))
