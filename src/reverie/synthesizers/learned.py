"""The frame of the synthesizers that learn what follows a step: the state, the reward, the end.

The networks are in reverie.models; here is how they are trained, and which of them are used.
"""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import Adam
from reverie.data import Dataset, Gaussian, MinMax, Normaliser, Spec, Transitions
from reverie.data.views import Rows, transition_rows
from reverie.errors import DataError, ReverieError
from reverie.learning import Optimised, Snapshots, where_due
from reverie.models import Bootstraps, Outcomes
from reverie.settings import Count, LearningRate, NonNegative
from reverie.synthesizers import transition

SHARE_HELD_OUT = 5
"""At most every fifth row is held out."""


class State(eqx.Module):
    """The networks in training, and of each, and of each member of the ensemble, the one that is used."""

    models: Optimised
    best: Snapshots
    held_out: Rows
    """The rows that are not trained on, `[m, ...]`, in network units."""
    step: jax.Array


@dataclass(frozen=True)
class LearnedOutcomes(Adam):
    """An ensemble of the dynamics and a classifier of ends, and their training."""

    members: Count = 7
    """Networks of the ensemble."""
    elites: Count = 5
    """Of which so many are used, those of the least error on held-out rows."""
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    """Widths of the ensemble's hidden layers."""
    policy_hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the classifier of ends, and of the behaviour policy where there is one."""
    batch_size: Count = 256
    """Transitions an update, for every member others."""
    learning_rate: LearningRate = 1e-3
    """Adam's step size."""
    weight_decay: NonNegative = 5e-5
    """Weight of the squares of the ensemble's weights, beside half of PETS's loss: by PETS's count it is 1e-4, as there
    in the last layer, from 2.5e-5 in the first."""
    held_out: Count = 1000
    """Rows that are not trained on, to choose by; at most a fifth of the data."""
    check_every: Count = 50
    """Updates between two measurements on the held-out rows. The classifier of ends and each member on its own are used
    as they were when they erred least there, the behaviour policy as it was at the last of them."""
    kept_rows: Count = 100_000
    """Rows of the data that stay with the run: rollouts start in their states, and thresholds are measured by them."""

    def __post_init__(self):
        super().__post_init__()
        if self.elites > self.members:
            raise ReverieError(f"elites = {self.elites} exceeds members = {self.members}")

    def prepare(self, data: Dataset, spec: Spec | None = None):
        """The members' bootstraps of the rows that are not held out. Rows are shuffled by a fixed seed.

        Raises DataError for fewer than five rows, and for terminals without next observations.
        """
        data.require_rewards()
        if data.require_terminals().any() and data.next_observations is None:
            raise DataError(
                f"The data has {int(data.terminals.sum())} terminals and no 'next_observations', so how "
                "the task ends is unknown; give 'next_observations', or choose synther."
            )
        data = data.with_next_observations()
        arrays = data.arrays()
        if len(data) < SHARE_HELD_OUT:
            raise DataError(f"{len(data)} transitions are too few to hold one out; give at least {SHARE_HELD_OUT}.")
        draw = np.random.default_rng(0)
        order = draw.permutation(len(data))
        spec = spec or self.spec(data, order[: self.kept_rows])
        order = order[self.count_held_out(spec) :]
        rows, m = {name: each[order] for name, each in self.rows(arrays, spec).items()}, len(order)
        return Bootstraps(Transitions(rows), jnp.asarray(draw.integers(0, m, (self.members, m)), jnp.int32)), spec

    def spec(self, data: Dataset, kept) -> Spec:
        """The data's units, and its rows numbered `kept`, those held out first."""
        spec, arrays = transition.fit(data), data.arrays()
        units: dict[str, Normaliser] = {"actions": MinMax(spec.action_low, spec.action_high)}
        units |= {"changes": Gaussian.fit(arrays["next_observations"] - arrays["observations"])}
        normalisers = {key: each for key, each in spec.normalisers.items() if key != "next_observations"} | units
        names = ("observations", "actions", "rewards", "next_observations", "terminals")
        return replace(spec, normalisers=normalisers, kept={name: jnp.asarray(arrays[name][kept]) for name in names})

    def count_held_out(self, spec: Spec) -> int:
        return min(self.held_out, len(spec.kept["actions"]) // SHARE_HELD_OUT)

    def rows(self, arrays: Rows, spec: Spec) -> Rows:
        """Rows `[N, ...]` in the data's units as the networks see them, with the `changes` of the observations."""
        changes = spec.normalise("changes", arrays["next_observations"] - arrays["observations"])
        return transition_rows(arrays, spec) | {"changes": changes}

    def networks(self, key, spec: Spec) -> Outcomes:
        sizes, hidden = (spec.observation_dim, spec.action_dim), (self.hidden, self.policy_hidden)
        return Outcomes(key, *sizes, members=self.members, hidden=hidden[0], ending_hidden=hidden[1])

    def init(self, key, spec: Spec) -> Any:
        """Raises ReverieError for a specification of an earlier version."""
        if "terminals" not in spec.kept:
            raise ReverieError("The rows held out have no ends, as in runs of earlier versions; train the run anew.")
        models, count = self.networks(key, spec), self.count_held_out(spec)
        held_out = self.rows({name: each[:count] for name, each in spec.kept.items()}, spec)
        best = Snapshots.first(models, models.errors(held_out))
        return State(Optimised.create(models, self.optimiser), best, held_out, jnp.zeros((), jnp.int32))

    def update(self, state: Any, batch, key) -> tuple[Any, dict[str, jax.Array]]:
        gradient, metrics = jax.grad(lambda models: models.loss(batch, self.weight_decay), has_aux=True)(
            state.models.params
        )
        models, step = state.models.apply(gradient, self.optimiser), state.step + 1

        def measured(best: Snapshots) -> Snapshots:
            return best.offered(models.params, models.params.errors(state.held_out))

        best = where_due(step % self.check_every == 0, measured, state.best)
        held_out = {f"held_out_{name}_error": error.mean() for name, error in best.last.items()}
        return State(models, best, state.held_out, step), metrics | held_out

    def best(self, state: State) -> Any:
        """The networks as they erred least on the held-out rows, of the ensemble the elites alone."""
        models = state.best.model
        elites = models.ensemble.elites(state.best.least["ensemble"], self.elites)
        return eqx.tree_at(lambda each: each.ensemble, models, elites)
