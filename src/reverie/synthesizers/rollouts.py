"""The frame of the synthesizers of learned dynamics: rollouts that start in states of the data.

What is learned is in reverie.models.dynamics; an algorithm says what the ensemble's uncertainty along the way does.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from reverie.configs import Adam
from reverie.data import Dataset, Gaussian, MinMax, Normaliser, Spec, Transitions, transitions
from reverie.errors import DataError, ReverieError
from reverie.learning import Optimised, map_rows
from reverie.models import Bootstraps, Dynamics, Ensemble, errors, largest_uncertainty, outcome, rollout
from reverie.networks.layers import concatenate
from reverie.settings import Acting, Count, LearningRate, NonNegative
from reverie.synthesizers import transition
from reverie.synthesizers.chunked import Episodic
from reverie.terminal import wait

SHARE_HELD_OUT = 5
"""At most every fifth row is held out."""


class State(eqx.Module):
    models: Optimised


class Ready(NamedTuple):
    """What rollouts are made with."""

    models: Dynamics
    """With the elites alone."""
    bound: jax.Array
    """Of the uncertainty, a scalar."""
    lowest_reward: jax.Array
    """Of the rows kept."""


@dataclass(frozen=True)
class ModelRollouts(Episodic, Adam):
    """The frame of MBPO's, MOReL's and TATU's data."""

    name: ClassVar[str]

    members: Count = 7
    """Networks of the ensemble."""
    elites: Count = 5
    """Of which so many are used, those of the smallest error on held-out rows."""
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    """Widths of the ensemble's hidden layers."""
    policy_hidden: tuple[int, ...] = (256, 256)
    """Widths of the behaviour policy's hidden layers, and of the classifier of ends."""
    batch_size: Count = 256
    """Transitions an update, for every member others."""
    learning_rate: LearningRate = 1e-3
    """Adam's step size."""
    weight_decay: NonNegative = 5e-5
    """Weight of the squares of the ensemble's weights; PETS has 2.5e-5 in the first layer to 1e-4 in the last."""
    held_out: Count = 1000
    """Rows that are not trained on, to choose the elites; at most a fifth of the data."""
    kept_rows: Count = 100_000
    """Rows of the data that stay with the run: rollouts start in their states, and thresholds are measured by them."""
    horizon: Acting[Count] = 5
    """Longest rollout, in steps."""

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
        changes = spec.normalise("changes", arrays["next_observations"] - arrays["observations"])
        rows = transitions(data, spec).rows | {"changes": changes}
        rows = {name: each[order[self.count_held_out(spec) :]] for name, each in rows.items()}
        m = len(changes) - self.count_held_out(spec)
        return Bootstraps(Transitions(rows), jnp.asarray(draw.integers(0, m, (self.members, m)), jnp.int32)), spec

    def spec(self, data: Dataset, kept) -> Spec:
        """The data's units, and its rows numbered `kept`, those held out first."""
        spec, arrays = transition.fit(data), data.arrays()
        units: dict[str, Normaliser] = {"actions": MinMax(spec.action_low, spec.action_high)}
        units |= {"changes": Gaussian.fit(arrays["next_observations"] - arrays["observations"])}
        normalisers = {key: each for key, each in spec.normalisers.items() if key != "next_observations"} | units
        names = ("observations", "actions", "rewards", "next_observations")
        return replace(spec, normalisers=normalisers, kept={name: jnp.asarray(arrays[name][kept]) for name in names})

    def count_held_out(self, spec: Spec) -> int:
        return min(self.held_out, len(spec.kept["actions"]) // SHARE_HELD_OUT)

    def init(self, key, spec: Spec) -> State:
        sizes, hidden = (spec.observation_dim, spec.action_dim), (self.hidden, self.policy_hidden)
        models = Dynamics(key, *sizes, members=self.members, hidden=hidden[0], policy_hidden=hidden[1])
        return State(Optimised.create(models, self.optimiser))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        gradient, metrics = jax.grad(lambda models: models.loss(batch, self.weight_decay), has_aux=True)(
            state.models.params
        )
        return State(state.models.apply(gradient, self.optimiser)), metrics

    @partial(jax.jit, static_argnums=0)
    def ready(self, state: State, spec: Spec) -> Ready:
        """The elites, by their error on the held-out rows, and the bound of their uncertainty, by the rows kept."""
        models, held = state.models.params, self.count_held_out(spec)
        error = errors(models.ensemble, {name: rows[:held] for name, rows in spec.kept.items()}, spec)
        models = eqx.tree_at(lambda each: each.ensemble, models, models.ensemble.elites(error, self.elites))
        return Ready(models, self.bound(models.ensemble, spec), spec.kept["rewards"].min())

    def predict(self, state: State, spec: Spec, observations, actions) -> tuple[np.ndarray, np.ndarray]:
        """What follows steps `[N, ...]`, by the elites' mean: next observations and rewards, in the data's units."""
        models = self.ready(state, spec).models

        def piece(pairs, key):
            observed, acted = jnp.split(pairs, [spec.observation_dim], -1)
            mean, _ = models.ensemble(spec.normalise("observations", observed), spec.normalise("actions", acted))
            after, reward = outcome(mean.mean(0), observed, spec)
            return concatenate(after, reward[:, None])

        found = np.asarray(map_rows(piece, concatenate(jnp.asarray(observations), actions), jax.random.key(0)))
        return found[:, :-1], found[:, -1]

    def bound(self, ensemble: Ensemble, spec: Spec) -> jax.Array:
        """Of the uncertainty in rollouts, by the elites `ensemble`."""
        return jnp.float32(jnp.inf)

    def uncertainty(self, means) -> jax.Array:
        """Of the members' means of the next state `[E, ..., observation]`, in its standard deviations: `[...]`."""
        return jnp.zeros(means.shape[1:-1])

    def largest_uncertainty(self, ensemble: Ensemble, spec: Spec) -> jax.Array:
        """Of the rows kept."""
        return largest_uncertainty(ensemble, spec, spec.kept, self.uncertainty)

    def episodes(self, ready: Ready, spec: Spec, key) -> dict[str, np.ndarray]:
        rows = self.rollouts(ready, spec, key)
        wait(rows["valid"])
        return pack(jax.device_get(rows))

    def too_few(self, ready: Ready, passes: int, rows: int) -> str:
        return (
            f"{passes * self.starts} rollouts came to {rows} steps, and a chunk has {self.chunk}: nearly all pass the "
            f"bound of the uncertainty, {float(ready.bound):.3g}, at once; raise the threshold or train longer."
        )

    def computed(self, state: State, spec: Spec, key):
        return self.rollouts(self.ready(state, spec), spec, key)

    @property
    def starts(self) -> int:
        """Rollouts in a pass: as many as fill a chunk where none is cut."""
        return -(-self.chunk // self.horizon)

    @partial(jax.jit, static_argnums=0)
    def rollouts(self, ready: Ready, spec: Spec, key) -> dict[str, jax.Array]:
        """Rollouts of `horizon` steps, `[starts, horizon, ...]`, in the data's units; `valid` are the steps to keep."""
        start_key, key = jax.random.split(key)
        states = spec.kept["observations"]
        first = states[jax.random.randint(start_key, (self.starts,), 0, len(states))]

        def step(carry, key):
            observations, going, accumulated = carry
            row, means = ready.models.step(spec, observations, key)
            row, kept, accumulated = self.judge(row, self.uncertainty(means), accumulated, ready)
            valid = going & kept
            return (row["next_observations"], valid & ~row["terminals"], accumulated), row | {"valid": valid}

        return rollout(step, (first, jnp.ones(self.starts, bool), jnp.zeros(self.starts)), key, self.horizon)

    def judge(self, row: dict[str, jax.Array], uncertainty, accumulated, ready: Ready):
        """What becomes of a step of such uncertainty `[n]`: the row as it is told, whether it is kept `[n]`, and the
        uncertainty of the rollout so far, with this step `[n]`."""
        return row, jnp.ones(len(accumulated), bool), accumulated


def pack(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The valid steps of rollouts `[n, horizon, ...]`, one after another, with `timeouts` where a rollout is cut.

    `valid` holds for the first steps of a rollout, some or none.
    """
    valid = rows["valid"]
    last = valid & ~np.pad(valid[:, 1:], ((0, 0), (0, 1)))
    rows = {**rows, "timeouts": last & ~rows["terminals"]}
    return {name: each[valid] for name, each in rows.items() if name != "valid"}
