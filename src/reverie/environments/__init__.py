"""Tasks we generate data for, controllers that solve them, and environments by name."""

from reverie.environments.controllers import densify, straight_line, track
from reverie.environments.datasets import DATASETS, make_dataset
from reverie.environments.pointmaze import MAZES, Maze
from reverie.environments.policies import Policy, RandomPolicy, StraightLinePolicy, WaypointPolicy
from reverie.environments.registry import make

__all__ = [
    "DATASETS",
    "MAZES",
    "Maze",
    "Policy",
    "RandomPolicy",
    "StraightLinePolicy",
    "WaypointPolicy",
    "densify",
    "make",
    "make_dataset",
    "straight_line",
    "track",
]
