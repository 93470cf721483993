"""What the methods that learn from transitions share: policies of one step, critics, actors."""

from .actors import DeterministicActor, Normal, NormalActor, NormalMixture, TanhNormal, TanhNormalActor
from .behaviour import BehaviourModel, tilted_mean
from .candidates import Selection, best, select, take
from .chunked import ChunkedActions
from .critics import ActorCritic, Critic, QNetwork, WithCritics, conservatism, lower_bound, magnitude, minimum
from .delayed import DelayedActorCritic, DelayedState
from .diffusion_actor import BackboneActor, DiffusionActor, DiscreteDiffusionActor
from .flow_actor import Flow, FlowActor
from .imagined import Imagined, ImaginedActorCritic, ImaginedState, alive, drawn_rows
from .implicit import IMPLICIT_LOSSES, ChosenStatistic, ImplicitCritic, ImplicitQ
from .on_policy import (
    OnPolicyActor,
    OnPolicyState,
    Running,
    StateValue,
    advantages,
    clipped_surrogate,
    minibatches,
    orthogonal_mlp,
)
from .online import OnlineDiffusion, OnlineState
from .policy import SamplingExplorer, StepPolicy, behaviour_of
from .regression import advantage_weighted_loss
from .rewards import REWARDS
from .soft import SoftActor, SoftActorCritic
from .teams import TeamActor, TeamPolicy, each_agent

__all__ = [
    "IMPLICIT_LOSSES",
    "REWARDS",
    "ActorCritic",
    "BackboneActor",
    "BehaviourModel",
    "ChosenStatistic",
    "ChunkedActions",
    "Critic",
    "DelayedActorCritic",
    "DelayedState",
    "DeterministicActor",
    "DiffusionActor",
    "DiscreteDiffusionActor",
    "Flow",
    "FlowActor",
    "Imagined",
    "ImaginedActorCritic",
    "ImaginedState",
    "ImplicitCritic",
    "ImplicitQ",
    "Normal",
    "NormalActor",
    "NormalMixture",
    "OnPolicyActor",
    "OnPolicyState",
    "OnlineDiffusion",
    "OnlineState",
    "QNetwork",
    "Running",
    "SamplingExplorer",
    "Selection",
    "SoftActor",
    "SoftActorCritic",
    "StateValue",
    "StepPolicy",
    "TanhNormal",
    "TanhNormalActor",
    "TeamActor",
    "TeamPolicy",
    "WithCritics",
    "advantage_weighted_loss",
    "advantages",
    "alive",
    "behaviour_of",
    "best",
    "clipped_surrogate",
    "conservatism",
    "drawn_rows",
    "each_agent",
    "lower_bound",
    "magnitude",
    "minibatches",
    "minimum",
    "orthogonal_mlp",
    "select",
    "take",
    "tilted_mean",
]
