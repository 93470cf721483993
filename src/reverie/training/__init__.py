"""Training: `fit`, `resume`, `load`, and what algorithms build their states from."""

from reverie.training.fitting import fit, resume
from reverie.training.online import Online, Synthesis, fit_online
from reverie.training.run import Policy, Run, load
from reverie.learning import Optimised, delayed_ema, ema, optimiser

__all__ = [
    "Online",
    "Optimised",
    "Policy",
    "Run",
    "Synthesis",
    "delayed_ema",
    "ema",
    "fit",
    "fit_online",
    "load",
    "optimiser",
    "resume",
]
