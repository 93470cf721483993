"""Baselines: what the papers compare with."""

from reverie.baselines.awac import AWAC
from reverie.baselines.bc import BC
from reverie.baselines.cdt import CDT
from reverie.baselines.cql import CQL
from reverie.baselines.decision_transformer import DecisionTransformer
from reverie.baselines.iql import IQL
from reverie.baselines.ma_bc import MABC
from reverie.baselines.ma_td3_bc import MATD3BC
from reverie.baselines.mt_bc import MTBC
from reverie.baselines.mt_iql import MTIQL
from reverie.baselines.omar import OMAR
from reverie.baselines.one_step import OneStepRL
from reverie.baselines.ppo import PPO
from reverie.baselines.prompt_dt import PromptDT
from reverie.baselines.rebrac import ReBRAC
from reverie.baselines.redq import REDQ
from reverie.baselines.sac import SAC
from reverie.baselines.td3 import TD3
from reverie.baselines.td3_bc import TD3BC
from reverie.baselines.td3_bc_lag import TD3BCLag
from reverie.baselines.xql import XQL

__all__ = [
    "AWAC",
    "BC",
    "CDT",
    "CQL",
    "IQL",
    "MABC",
    "MATD3BC",
    "MTBC",
    "MTIQL",
    "OMAR",
    "PPO",
    "REDQ",
    "SAC",
    "TD3",
    "TD3BC",
    "XQL",
    "DecisionTransformer",
    "OneStepRL",
    "PromptDT",
    "ReBRAC",
    "TD3BCLag",
]
