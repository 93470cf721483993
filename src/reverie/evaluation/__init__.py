"""How good a run is: rollouts, scores with their intervals, pictures."""

from reverie.evaluation.acting import RunPolicy
from reverie.evaluation.during import Evaluate
from reverie.evaluation.fidelity import Dynamics, Fidelity, fidelity
from reverie.evaluation.rollout import evaluate
from reverie.evaluation.scores import REFERENCES, Estimate, Interval, Latency, Reference, Scores, bootstrap, estimate
from reverie.evaluation.two_sample import TwoSample, two_sample

__all__ = [
    "REFERENCES",
    "Dynamics",
    "Estimate",
    "Evaluate",
    "Fidelity",
    "Interval",
    "Latency",
    "Reference",
    "RunPolicy",
    "Scores",
    "TwoSample",
    "bootstrap",
    "estimate",
    "evaluate",
    "fidelity",
    "two_sample",
]
