"""Planners: many steps at once, not one after another."""

from reverie.planners.diffuser import Diffuser, DiffuserMaze

__all__ = ["Diffuser", "DiffuserMaze"]
