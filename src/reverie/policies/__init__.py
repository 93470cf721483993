"""Policies: one step, any distribution of actions."""

from reverie.policies.dac import DAC
from reverie.policies.diffusion_bc import DiffusionBC
from reverie.policies.diffusion_ql import DiffusionQL
from reverie.policies.dipo import DIPO
from reverie.policies.dpmd import DPMD
from reverie.policies.dppo import DPPO
from reverie.policies.dsrl import DSRL
from reverie.policies.fpo import FPO
from reverie.policies.fql import FQL
from reverie.policies.idql import IDQL
from reverie.policies.ifql import IFQL
from reverie.policies.qam import QAM
from reverie.policies.qc import QC, QCFQL
from reverie.policies.qgpo import QGPO
from reverie.policies.qsm import QSM
from reverie.policies.qvpo import QVPO
from reverie.policies.reinflow import ReinFlow
from reverie.policies.sdac import SDAC
from reverie.policies.sfbc import SfBC

__all__ = [
    "DAC", "DIPO", "DPMD", "DPPO", "DSRL", "FPO", "FQL", "IDQL", "IFQL", "QAM", "QC", "QCFQL", "QGPO", "QSM", "QVPO",
    "SDAC", "DiffusionBC", "DiffusionQL", "ReinFlow", "SfBC",
]  # fmt: skip
