"""Models of the world that planners, synthesizers and other roles use: ensembles, learned dynamics, rollouts,
frames as tokens."""

from reverie.models.dynamics import Dynamics, Outcomes, largest_uncertainty, pack, rollout
from reverie.models.ensemble import Bootstraps, Ensemble, disagreement, distance_from_mean, outcome, states
from reverie.models.frame_codes import FrameCoder, revived, used
from reverie.models.latent import Latent, LatentModel

__all__ = [
    "Bootstraps",
    "Dynamics",
    "Ensemble",
    "FrameCoder",
    "Latent",
    "LatentModel",
    "Outcomes",
    "disagreement",
    "distance_from_mean",
    "largest_uncertainty",
    "outcome",
    "pack",
    "revived",
    "rollout",
    "states",
    "used",
]
