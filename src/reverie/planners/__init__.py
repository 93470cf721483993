"""Planners: many steps at once, not autoregressive."""

from reverie.planners.decision_diffuser import DecisionDiffuser
from reverie.planners.diffuser import Diffuser
from reverie.planners.diffuser_maze import DiffuserMaze

__all__ = ["DecisionDiffuser", "Diffuser", "DiffuserMaze"]
