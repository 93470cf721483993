"""What planners share: windows as arrays, values of them, inverse dynamics, receding-horizon acting."""

from reverie.planning.inverse_dynamics import DiffusionInverseDynamics, InverseDynamics
from reverie.planning.receding import Plan, replan
from reverie.planning.retrieval import nearest, remember
from reverie.planning.values import best_plans, noisy_value_loss, return_units
from reverie.planning.windows import DenoiserState, WindowDiffusion, WindowPlanner

__all__ = [
    "DenoiserState",
    "DiffusionInverseDynamics",
    "InverseDynamics",
    "Plan",
    "WindowDiffusion",
    "WindowPlanner",
    "best_plans",
    "nearest",
    "noisy_value_loss",
    "remember",
    "replan",
    "return_units",
]
