"""Baselines: what the papers compare with."""

from reverie.baselines.bc import BC
from reverie.baselines.iql import IQL
from reverie.baselines.td3_bc import TD3BC

__all__ = ["BC", "IQL", "TD3BC"]
