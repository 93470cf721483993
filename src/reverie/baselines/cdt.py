"""Constrained Decision Transformer (Liu et al. 2023, "Constrained Decision Transformer for Offline Safe Reinforcement
Learning").

A Decision Transformer that reads, beside the return, the cost that is still to come. Asked for a return within a
budget, it acts as the data do where both followed.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from reverie.data import Dataset, Gaussian, Spec, costs_to_go
from reverie.errors import ReverieError
from reverie.planning.budgets import BUDGET, asked_budget, budget_wish, with_episode_costs
from reverie.wishes import Wishes

from .decision_transformer import DecisionTransformer


@dataclass(frozen=True)
class CDT(DecisionTransformer):
    """Constrained Decision Transformer: cloning of what led to the return that is asked for, at the cost allowed."""

    name: ClassVar = "cdt"
    paper: ClassVar = "Liu et al. 2023"
    needs: ClassVar = ("rewards", "costs")
    counted: ClassVar = {**DecisionTransformer.counted, "costs_to_go": (BUDGET, "cost")}

    def spec(self, data: Dataset) -> Spec:
        spec, to_go = super().spec(data), costs_to_go(data)
        costs = to_go[data.episodes[:, 0]]
        units = spec.normalisers | {"costs_to_go": Gaussian.fit(to_go[:, None])}
        # The highest return of the episodes that cost least.
        best = data.returns[costs == costs.min()].max(keepdims=True).astype(np.float32)
        spec = replace(spec, normalisers=units, kept=spec.kept | {"cheapest_return": best})
        return with_episode_costs(spec, costs, costs)

    def prepare(self, data: Dataset, spec: Spec | None = None):
        data.require_costs()
        return super().prepare(data, spec)

    def wishes(self, spec: Spec):
        """Where nothing is asked for: the lowest cost of the data's episodes, and the highest return at that cost. Both
        have to go together, as a return for which the data spent more than the budget is a contradiction."""
        wishes = super().wishes(spec) | budget_wish(spec)
        default = float(np.asarray(spec.kept["cheapest_return"])[0])
        return wishes | {"target_return": replace(wishes["target_return"], default=default)}

    def targets(self, wishes: Wishes):
        """Raises ReverieError for a budget that is below 0 or infinite."""
        if BUDGET not in wishes:
            return super().targets(wishes)
        budget = asked_budget(wishes)
        if not np.isfinite(budget).all():
            raise ReverieError(
                f"{BUDGET} = {float(np.max(budget)):g} is nothing that {self.name} can read; give a number, such as "
                "what the data's dearest episode cost where there is no limit."
            )
        return super().targets({**wishes, BUDGET: budget})
