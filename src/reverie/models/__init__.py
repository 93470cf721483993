"""Models of the world that planners, synthesizers and other roles use: ensembles, learned dynamics, rollouts."""

from reverie.models.dynamics import Dynamics, largest_uncertainty, rollout
from reverie.models.ensemble import Bootstraps, Ensemble, disagreement, distance_from_mean, errors, outcome, states

__all__ = [
    "Bootstraps",
    "Dynamics",
    "Ensemble",
    "disagreement",
    "distance_from_mean",
    "errors",
    "largest_uncertainty",
    "outcome",
    "rollout",
    "states",
]
