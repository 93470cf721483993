"""TATU (Zhang, Lyu et al. 2023, "Uncertainty-driven Trajectory Truncation for Data Augmentation in Offline RL").

Rollouts in learned dynamics that are cut once the uncertainty spent on the way is above a threshold: long ones where
the data knows what happens, short ones where it does not. The step that passes the threshold is left out, and what is
kept pays for its uncertainty. The paper's rollout policy for model-free methods is a conditional VAE; this one is
Gaussian.
"""

from dataclasses import dataclass
from typing import ClassVar

from reverie.synthesizers.ensemble import deviation
from reverie.synthesizers.rollouts import ModelRollouts


@dataclass(frozen=True)
class TATU(ModelRollouts):
    """TATU: rollouts in learned dynamics, cut where their uncertainty has added up."""

    name: ClassVar = "tatu"
    paper: ClassVar = "Zhang et al. 2023"
    acting_fields: ClassVar = (*ModelRollouts.acting_fields, "threshold", "penalty")
    limits: ClassVar = ModelRollouts.limits | {"threshold": 0.0, "penalty": 0.0}

    threshold: float = 0.5
    """Uncertainty after which a rollout is cut, in units of the data's largest of one step: the inverse of the released
    code's coefficient of pessimism, 2 to 3.5."""
    penalty: float = 1.0
    """Reward that a step pays for its uncertainty (in the observations' deviations); 0 for rewards as predicted."""

    def uncertainty(self, means):
        return deviation(means)

    def bound(self, dynamics, spec):
        return self.threshold * self.largest_uncertainty(dynamics, spec)

    def judge(self, row, uncertainty, spent, ready):
        spent = spent + uncertainty
        row = row | {"rewards": row["rewards"] - self.penalty * uncertainty}
        return row, spent <= ready.bound, spent
