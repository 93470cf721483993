"""Training: `fit`, `fit_online`, `adapt`, `load`, and the runs that they give."""

from reverie.training.adapting import adapt
from reverie.training.callbacks import Callback
from reverie.training.fitting import fit
from reverie.training.online import fit_online
from reverie.training.packing import fit_many
from reverie.training.run import Policy, Run, load
from reverie.training.settings import Online, Rounds, Synthesis

__all__ = [
    "Callback",
    "Online",
    "Policy",
    "Rounds",
    "Run",
    "Synthesis",
    "adapt",
    "fit",
    "fit_many",
    "fit_online",
    "load",
]
