"""The data of MBPO (Janner, Fu, Zhang & Levine 2019, "When to Trust Your Model: Model-Based Policy Optimization").

Short rollouts in a learned ensemble, from states of the data, as they come. Here the data is fixed and so is the policy
that acts in the rollouts, the data's own; the paper's policy is the one that learns from them, online.
"""

from dataclasses import dataclass
from typing import ClassVar

from reverie.synthesizers.rollouts import ModelRollouts


@dataclass(frozen=True)
class MBPO(ModelRollouts):
    """MBPO: short rollouts of the data's policy in learned dynamics, whatever their uncertainty."""

    name: ClassVar = "mbpo"
    paper: ClassVar = "Janner et al. 2019"
