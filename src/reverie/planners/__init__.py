"""Planners: many steps at once, not autoregressive."""

from reverie.planners.comp_diffuser import CompDiffuser
from reverie.planners.diffuser import Diffuser
from reverie.planners.diffuser_maze import DiffuserMaze
from reverie.planners.hierarchical import HierarchicalDiffuser

__all__ = ["CompDiffuser", "Diffuser", "DiffuserMaze", "HierarchicalDiffuser"]
