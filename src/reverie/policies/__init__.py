"""Policies: one step, any distribution of actions."""

from reverie.policies.diffusion_bc import DiffusionBC
from reverie.policies.diffusion_ql import DiffusionQL
from reverie.policies.dppo import DPPO
from reverie.policies.fpo import FPO
from reverie.policies.fql import FQL
from reverie.policies.idql import IDQL
from reverie.policies.ifql import IFQL
from reverie.policies.qc import QC, QCFQL
from reverie.policies.qgpo import QGPO
from reverie.policies.reinflow import ReinFlow
from reverie.policies.sfbc import SfBC

__all__ = [
    "DPPO",
    "FPO",
    "FQL",
    "IDQL",
    "IFQL",
    "QC",
    "QCFQL",
    "QGPO",
    "DiffusionBC",
    "DiffusionQL",
    "ReinFlow",
    "SfBC",
]
