"""Planners: many steps at once, not autoregressive."""

from reverie.planners.diffuser import Diffuser
from reverie.planners.diffuser_maze import DiffuserMaze
from reverie.planners.veteran import DiffusionVeteran

__all__ = ["Diffuser", "DiffuserMaze", "DiffusionVeteran"]
