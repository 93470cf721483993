"""Environments by name, controllers that solve them, and many environments stepped together."""

from reverie.environments.pointmaze import MAZES, Maze
from reverie.environments.policies import Policy, RandomPolicy, StraightLinePolicy, WaypointPolicy
from reverie.environments.registry import make

__all__ = ["MAZES", "Maze", "Policy", "RandomPolicy", "StraightLinePolicy", "WaypointPolicy", "make"]
