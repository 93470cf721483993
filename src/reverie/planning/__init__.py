"""What planners share: windows as arrays, values of them, inverse dynamics, receding-horizon acting."""

from reverie.planning.chunks import ChunkActor, ChunkCarry, ChunkPolicy, FittedChunks, Overlap
from reverie.planning.composition import interleaved, join, joined_rows, pieces, seam_gaps
from reverie.planning.goals import AnewPlanner, GoalPlanner, GoalState
from reverie.planning.inverse_dynamics import DiffusionInverseDynamics, InverseDynamics
from reverie.planning.receding import Plan, replan
from reverie.planning.retrieval import nearest, remember
from reverie.planning.told_states import ToldState, ToldStates
from reverie.planning.values import best_plans, noisy_value_loss, restoration_gaps, return_units
from reverie.planning.windows import DenoiserState, UNetWindows, WindowDenoising, WindowDiffusion, WindowPlanner

__all__ = [
    "AnewPlanner",
    "ChunkActor",
    "ChunkCarry",
    "ChunkPolicy",
    "DenoiserState",
    "DiffusionInverseDynamics",
    "FittedChunks",
    "GoalPlanner",
    "GoalState",
    "InverseDynamics",
    "Overlap",
    "Plan",
    "ToldState",
    "ToldStates",
    "UNetWindows",
    "WindowDenoising",
    "WindowDiffusion",
    "WindowPlanner",
    "best_plans",
    "interleaved",
    "join",
    "joined_rows",
    "nearest",
    "noisy_value_loss",
    "pieces",
    "remember",
    "replan",
    "restoration_gaps",
    "return_units",
    "seam_gaps",
]
