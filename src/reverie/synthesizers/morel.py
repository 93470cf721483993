"""The data of MOReL (Kidambi, Rajeswaran, Netrapalli & Joachims 2020, "MOReL: Model-Based Offline RL").

A pessimistic decision process: learned dynamics in which whatever the data does not know ends the task, badly. Unknown
is a (s, a) about whose outcome two members of the ensemble disagree by more than a threshold. The paper plans in it by
natural policy gradients; here it makes data, on which any method trains.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import jax.numpy as jnp

from reverie.models.ensemble import disagreement
from reverie.settings import Acting, Limit, NonNegative
from reverie.synthesizers.rollouts import ModelRollouts


@dataclass(frozen=True)
class MOReL(ModelRollouts):
    """MOReL: rollouts in learned dynamics that halt, with a penalty, where the ensemble disagrees."""

    name: ClassVar = "morel"
    paper: ClassVar = "Kidambi et al. 2020"

    elites: Annotated[int, Limit(2)] = 5
    """Of the members so many are used, those of the least error on held-out rows. One alone is never uncertain."""
    threshold: Acting[NonNegative] = 1.0
    """Disagreement above which a step is unknown, in units of the data's largest."""
    penalty: Acting[NonNegative] = 30.0
    """How far below the data's lowest reward that of an unknown step is (the paper's kappa)."""

    def uncertainty(self, means):
        return disagreement(means)

    def bound(self, ensemble, spec):
        return self.threshold * self.largest_uncertainty(ensemble, spec)

    def judge(self, row, uncertainty, accumulated, ready):
        unknown = uncertainty > ready.bound
        rewards = jnp.where(unknown, ready.lowest_reward - self.penalty, row["rewards"])
        row = row | {"rewards": rewards, "terminals": row["terminals"] | unknown}
        return super().judge(row, uncertainty, accumulated, ready)
