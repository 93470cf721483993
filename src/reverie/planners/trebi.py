"""TREBI (Lin et al. 2023, "Safe Offline Reinforcement Learning with Real-Time Budget Constraints").

Diffuser with a second value, of the cost to go. While a plan is predicted to cost more than what is left of the budget,
it is led to a lower cost as well; of the candidates, those within the budget are chosen among by their return. The
budget is asked for in acting: another one needs no other training.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from reverie.data import Dataset, Gaussian, Spec, costs_to_go
from reverie.learning import Optimised
from reverie.networks import WindowValue
from reverie.planning import Plan
from reverie.planning.budgets import BUDGET, Ledger, budget_wish, evenly, longest_episode, with_episode_costs
from reverie.protocols import Feedback
from reverie.settings import Acting, NonNegative
from reverie.wishes import Wishes

from . import diffuser


class State(diffuser.State):
    """Diffuser's, and the value of the cost to go."""

    cost: Optimised
    cost_ema: WindowValue


Carry = tuple[Plan, Ledger]


@dataclass(frozen=True)
class TREBI(diffuser.Diffuser):
    """TREBI: windows that are led to a high return within what may be spent."""

    name: ClassVar = "trebi"
    paper: ClassVar = "Lin et al. 2023"
    needs: ClassVar = ("rewards", "costs")
    pad_timeouts: ClassVar = True
    """A budget is of an episode, whose last steps' costs are to be known where a time limit ends it, too."""

    termination_cost: NonNegative = 100.0
    """Added to the last cost of an episode that ends by a terminal, in what the value learns."""
    cost_weight: Acting[NonNegative] = 5.0
    """Of the predicted cost's gradient against the return's, in reward per cost, where a plan is above the budget."""
    cost_weighting: Acting[Literal["constant", "soft"]] = "constant"
    """Whether that is the weight, or it grows with the excess over what is left, from once to e times itself."""
    discounted_budget: Acting[bool] = False
    """Whether the budget is of costs discounted from the episode's start, as the paper's; else of their sum."""

    def prepare(self, data: Dataset, spec: Spec | None = None):
        costs = costs_to_go(data, self.discount, self.termination_cost)[:, None]
        known = spec
        view, spec = super().prepare(data, spec)
        if known is None:
            first = data.episodes[:, 0]
            spec = with_episode_costs(spec, *(costs_to_go(data, each)[first] for each in (1.0, self.discount)))
            units = spec.normalisers | {"costs_to_go": Gaussian.fit(costs)}
            spec = replace(spec, normalisers=units, kept=spec.kept | {"episode_steps": longest_episode(data)})
        to_go = spec.normalise("costs_to_go", costs[view.starts])[:, 0]
        return view.joined({}, {"costs_to_go": to_go}), spec

    def init(self, key, spec: Spec) -> State:
        cost = self.value_network(jax.random.fold_in(key, 2), spec)  # 0 and 1 are those that it is split into
        return State(**vars(super().init(key, spec)), cost=Optimised.create(cost, self.optimiser), cost_ema=cost)

    def update(self, state: State, batch, key):  # type: ignore[override]  # a Diffuser's state, and more
        learned, metrics = super().update(state, batch, key)
        cost, cost_ema, error = self.learn_to_go(
            *(state.cost, state.cost_ema, state.step, batch, "costs_to_go", jax.random.fold_in(key, 2))
        )
        return replace(learned, cost=cost, cost_ema=cost_ema), metrics | {"cost_loss": error}

    def wishes(self, spec: Spec):
        """The lowest cost of the data's episodes where nothing is asked for; infinity for Diffuser."""
        return budget_wish(spec, self.discounted_budget)

    def reset(self, spec: Spec, n: int, wishes: Wishes) -> Carry:  # type: ignore[override]
        return super().reset(spec, n, wishes), Ledger.opened(wishes, n)

    def rewish(self, carry: Carry, wishes: Wishes) -> Carry:
        """Another budget of the whole episode, if one is asked for; what was spent already counts."""
        plan, ledger = carry
        return plan, ledger.asked(wishes) if BUDGET in wishes else ledger

    def act(self, state: State, spec: Spec, observation, carry: Carry, feedback: Feedback, key):  # type: ignore[override]
        """The first action of the best of several plans, once the last step's cost is paid."""
        plan, ledger = carry
        ledger = ledger.paid(feedback["cost"], self.discount if self.discounted_budget else 1.0)
        rows = self.plan(state, spec, observation, (plan, ledger), key)
        return self.first_action(spec, rows), (Plan(rows, plan.step).shifted(), ledger.stepped())

    def plan(self, state: State, spec: Spec, observation, last: Carry, key) -> jax.Array:  # type: ignore[override]
        returns = self.to_go(state.value_ema, spec, "returns")
        costs = self.to_go(state.cost_ema, spec, "costs_to_go")
        left = self.left(spec, last[1])[:, None]

        def climbed(x, t):
            cost = costs(x, t)
            return returns(x, t) - jax.lax.stop_gradient(self.weight(cost, left)) * cost

        def ranked(x, t):
            return within(returns(x, t), costs(x, t), left)

        return self.guided(state, spec, observation, last[0], key, climbed, ranked)

    def left(self, spec: Spec, ledger: Ledger) -> jax.Array:
        """What may still be spent `[n]`, discounted from the current step, as the cost value is.

        A budget of discounted costs is only brought forward. What is left of a sum of costs is taken to
        be spent evenly over the steps that are left of the longest episode of the data.
        """
        if self.discounted_budget:
            return ledger.left / self.discount**ledger.step
        return ledger.left * evenly(self.discount, spec.kept["episode_steps"] - ledger.step)

    def weight(self, cost, left) -> jax.Array:
        """Of the cost's gradient, where the predicted costs `[n, N]` are above what is `left` `[n, 1]`; else 0."""
        weight = jnp.float32(self.cost_weight)
        if self.cost_weighting == "soft":
            excess = jnp.where(left > 0, (cost - left) / jnp.maximum(left, 1e-6), 1.0)
            weight = weight * jnp.exp(jnp.clip(excess, 0, 1))
        return jnp.where(cost > left, weight, 0.0)


def within(returns, costs, left) -> jax.Array:
    """Ranks of plans by their returns, costs `[n, N]`, and what is `left` `[n, 1]`: of those that do not cost more the
    highest return is first, and where all do the lowest cost."""
    allowed = costs <= left
    return jnp.where(allowed.any(-1, keepdims=True), jnp.where(allowed, returns, -jnp.inf), -costs)
