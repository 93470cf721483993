"""How good a run is: rollouts, scores with their intervals, pictures."""

from reverie.evaluation.rollout import RunPolicy, evaluate
from reverie.evaluation.scores import REFERENCES, Estimate, Interval, Latency, Reference, Scores, bootstrap, estimate

__all__ = [
    "REFERENCES",
    "Estimate",
    "Interval",
    "Latency",
    "Reference",
    "RunPolicy",
    "Scores",
    "bootstrap",
    "estimate",
    "evaluate",
]
