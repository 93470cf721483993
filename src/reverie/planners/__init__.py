"""Planners: many steps at once, not autoregressive."""

from reverie.planners.comp_diffuser import CompDiffuser
from reverie.planners.contrastive_diffuser import ContrastiveDiffuser
from reverie.planners.decision_diffuser import DecisionDiffuser
from reverie.planners.diffuser import Diffuser
from reverie.planners.diffuser_maze import DiffuserMaze
from reverie.planners.hierarchical import HierarchicalDiffuser
from reverie.planners.ldcq import LDCQ
from reverie.planners.madiff import MADiff
from reverie.planners.mtdiff import MTDiffPlanner
from reverie.planners.trebi import TREBI
from reverie.planners.veteran import DiffusionVeteran

__all__ = [
    "LDCQ",
    "TREBI",
    "CompDiffuser",
    "ContrastiveDiffuser",
    "DecisionDiffuser",
    "Diffuser",
    "DiffuserMaze",
    "DiffusionVeteran",
    "HierarchicalDiffuser",
    "MADiff",
    "MTDiffPlanner",
]
