"""TATU (Zhang, Lyu et al. 2023, "Uncertainty-driven Trajectory Truncation for Data Augmentation in Offline RL").

Rollouts in learned dynamics that are cut once their accumulated uncertainty is above a threshold: long ones where the
data knows what happens, short ones where it does not. The step that passes the threshold is left out, and what is
kept pays for its uncertainty. The paper's rollout policy for model-free methods is a conditional VAE; this one is
Gaussian.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from reverie.models.ensemble import distance_from_mean
from reverie.settings import Acting, Limit, NonNegative
from reverie.synthesizers.rollouts import ModelRollouts


@dataclass(frozen=True)
class TATU(ModelRollouts):
    """TATU: rollouts in learned dynamics, cut where their uncertainty has added up."""

    name: ClassVar = "tatu"
    paper: ClassVar = "Zhang et al. 2023"

    elites: Annotated[int, Limit(2)] = 5
    """Of the members so many are used, those of the least error on held-out rows. One alone is never uncertain."""
    threshold: Acting[NonNegative] = 0.5
    """Uncertainty after which a rollout is cut, in units of the data's largest of one step: the inverse of the released
    code's coefficient of pessimism, 2 to 3.5."""
    penalty: Acting[NonNegative] = 1.0
    """Reward that a step pays for its uncertainty (in the observations' standard deviations); 0 for none."""

    def uncertainty(self, means):
        return distance_from_mean(means)

    def bound(self, ensemble, spec):
        return self.threshold * self.largest_uncertainty(ensemble, spec)

    def judge(self, row, uncertainty, accumulated, ready):
        accumulated = accumulated + uncertainty
        row = row | {"rewards": row["rewards"] - self.penalty * uncertainty}
        return row, accumulated <= ready.bound, accumulated
