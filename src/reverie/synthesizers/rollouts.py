"""The frame of the synthesizers of learned dynamics: rollouts that start in states of the data.

What is learned is in reverie.models.dynamics; an algorithm says what the ensemble's uncertainty along the way does.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from reverie.data import Spec
from reverie.learning import map_rows
from reverie.models import Dynamics, Ensemble, largest_uncertainty, outcome, pack, rollout
from reverie.networks.layers import concatenate
from reverie.settings import Acting, Count
from reverie.synthesizers.chunked import Episodic
from reverie.synthesizers.learned import LearnedOutcomes, State
from reverie.terminal import wait


class Ready(NamedTuple):
    """What rollouts are made with."""

    models: Dynamics
    """With the elites alone."""
    bound: jax.Array
    """Of the uncertainty, a scalar."""
    lowest_reward: jax.Array
    """Of the rows kept."""


@dataclass(frozen=True)
class ModelRollouts(Episodic, LearnedOutcomes):
    """The frame of MBPO's, MOReL's and TATU's data."""

    name: ClassVar[str]

    horizon: Acting[Count] = 5
    """Longest rollout, in steps."""

    def networks(self, key, spec: Spec) -> Dynamics:
        sizes, hidden = (spec.observation_dim, spec.action_dim), (self.hidden, self.policy_hidden)
        return Dynamics(key, *sizes, members=self.members, hidden=hidden[0], policy_hidden=hidden[1])

    @partial(jax.jit, static_argnums=0)
    def ready(self, state: State, spec: Spec) -> Ready:
        """The best networks on the held-out rows, and the bound of the elites' uncertainty, by the rows kept."""
        models = self.best(state)
        return Ready(models, self.bound(models.ensemble, spec), spec.kept["rewards"].min())

    def predict(self, state: State, spec: Spec, observations, actions) -> tuple[np.ndarray, np.ndarray]:
        """What follows steps `[N, ...]`, by the elites' mean: next observations and rewards, in the data's units."""
        ensemble = self.best(state).ensemble

        def piece(pairs, key):
            observed, acted = jnp.split(pairs, [spec.observation_dim], -1)
            mean, _ = ensemble(spec.normalise("observations", observed), spec.normalise("actions", acted))
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

    def too_few(self, ready: Ready, spec: Spec, key, passes: int, rows: int) -> str:
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

    # As an environment (`roles.learned_env`).

    def world(self, state: State, spec: Spec) -> Ready:
        return self.ready(state, spec)

    def begin(self, world: Ready, spec: Spec, observations, key):
        return observations, jnp.zeros(len(observations))

    def follow(self, world: Ready, spec: Spec, carry, actions, key):
        observations, accumulated = carry
        row, means = world.models.follow(
            spec, observations, spec.normalise("actions", actions), jax.random.split(key, 3)
        )
        row, kept, accumulated = self.judge(row, self.uncertainty(means), accumulated, world)
        return (row["next_observations"], accumulated), row | {"valid": kept}

    def judge(self, row: dict[str, jax.Array], uncertainty, accumulated, ready: Ready):
        """What becomes of a step of such uncertainty `[n]`: the row as it is told, whether it is kept `[n]`, and the
        uncertainty of the rollout so far, with this step `[n]`."""
        return row, jnp.ones(len(accumulated), bool), accumulated
