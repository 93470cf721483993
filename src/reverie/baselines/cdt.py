"""Constrained Decision Transformer (Liu et al. 2023, "Constrained Decision Transformer for Offline Safe Reinforcement
Learning").

A Decision Transformer that reads, beside the return, the cost that is still to come. Asked for a return within a
budget, it acts as the data do where both followed.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from reverie.data import Dataset, Gaussian, Spec, costs_to_go
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

    def prepare(self, data: Dataset, spec: Spec | None = None):
        data.require_costs()
        if spec is None:
            _, spec = super().prepare(data)
            units = spec.normalisers | {"costs_to_go": Gaussian.fit(costs_to_go(data)[:, None])}
            spec = with_episode_costs(replace(spec, normalisers=units), data, 1.0)
        return super().prepare(data, spec)

    def wishes(self, spec: Spec):
        """Both have to go together: a return for which the data spent more than the budget is a contradiction."""
        return super().wishes(spec) | budget_wish(spec)

    def targets(self, wishes: Wishes):
        """Raises ReverieError for a budget below 0."""
        return super().targets({**wishes, BUDGET: asked_budget(wishes)} if BUDGET in wishes else wishes)
