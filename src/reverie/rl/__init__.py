"""What the methods that learn from transitions share: policies of one step, critics, actors."""

from .actors import DeterministicActor, Normal, NormalActor, TanhNormal, TanhNormalActor
from .behaviour import BehaviourModel, over_rows, tilted_mean
from .critics import ActorCritic, Critic, QNetwork, least
from .diffusion_actor import DiffusionActor
from .implicit import IMPLICIT_LOSSES, ImplicitCritic, ImplicitQ
from .policy import REWARDS, StepPolicy
from .soft import SoftActor, SoftActorCritic

__all__ = [
    "IMPLICIT_LOSSES",
    "REWARDS",
    "ActorCritic",
    "BehaviourModel",
    "Critic",
    "DeterministicActor",
    "DiffusionActor",
    "ImplicitCritic",
    "ImplicitQ",
    "Normal",
    "NormalActor",
    "QNetwork",
    "SoftActor",
    "SoftActorCritic",
    "StepPolicy",
    "TanhNormal",
    "TanhNormalActor",
    "least",
    "over_rows",
    "tilted_mean",
]
