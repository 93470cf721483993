"""Behaviour cloning by a diffusion model of the actions (Diffusion-QL's without Q; Pearce et al. 2023)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import equinox as eqx

from reverie.data import Dataset, Spec, pairs
from reverie.errors import ReverieError
from reverie.learning import Optimised
from reverie.networks import DenoisingMLP, LayerNormResNet
from reverie.rl import DiscreteDiffusionActor


class State(eqx.Module):
    actor: Optimised


@dataclass(frozen=True)
class DiffusionBC(DiscreteDiffusionActor):
    """Behaviour cloning by diffusion: all of the data's ways to act, in their proportions."""

    name: ClassVar = "diffusion-bc"
    paper: ClassVar = "Wang et al. 2023; Pearce et al. 2023"

    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the mlp's hidden layers, or of the resnet's blocks, which are all of one width."""
    backbone: Literal["mlp", "resnet"] = "mlp"
    """Diffusion-QL's network, or IDQL's with layer norms and residual blocks (without its dropout)."""

    def __post_init__(self):
        super().__post_init__()
        if self.backbone == "resnet" and len(set(self.hidden)) != 1:
            raise ReverieError(
                f"hidden = {self.hidden}, but the resnet's blocks are of one width; give it once a block"
            )

    def network(self, key, spec: Spec):
        sizes = (spec.action_dim, spec.observation_dim)
        if self.backbone == "resnet":
            return LayerNormResNet(key, *sizes, width=self.hidden[0], blocks=len(self.hidden))
        return DenoisingMLP(key, *sizes, hidden=self.hidden)

    def prepare(self, data: Dataset, spec: Spec | None = None):
        spec = spec or self.spec(data)
        return pairs(data, spec), spec

    def init(self, key, spec: Spec) -> State:
        return State(Optimised.create(self.network(key, spec), self.optimiser))

    def update(self, state: State, batch, key):
        actor, loss = state.actor.minimise(lambda net: self.denoising_loss(net, batch, key).mean(), self.optimiser)
        return State(actor), {"diffusion_loss": loss}

    def choose(self, state, spec, observation, key):
        return self.sample(state.actor.params, observation, key, (*observation.shape[:-1], spec.action_dim))
