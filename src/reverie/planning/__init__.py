"""What planners share: windows as arrays, values of them, inverse dynamics, receding-horizon acting."""

from reverie.planning.inverse_dynamics import InverseDynamics
from reverie.planning.receding import Plan, replan
from reverie.planning.values import noisy_value_loss, return_units
from reverie.planning.windows import DenoiserState, WindowDiffusion

__all__ = ["DenoiserState", "InverseDynamics", "Plan", "WindowDiffusion", "noisy_value_loss", "replan", "return_units"]
