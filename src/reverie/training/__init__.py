"""Training: `fit`, `resume`, `load`, and what algorithms build their states from."""

from reverie.training.fitting import fit, resume
from reverie.training.run import Policy, Run, load
from reverie.training.state import Optimised, delayed_ema, ema, optimiser

__all__ = ["Optimised", "Policy", "Run", "delayed_ema", "ema", "fit", "load", "optimiser", "resume"]
