"""What the synthesizers of learned dynamics share: an ensemble, the data's policy, and rollouts of one in the other.

Three networks are learned from the data at once. The ensemble moves the state and pays the reward. A classifier of
(s, a, s') tells whether the task ended: the rule is the environment's, which the library does not know. Ends are drawn
by its probability, so that they are as frequent as in the data. A Gaussian policy, cloned from the data, acts. Rollouts
start in states of the data; an algorithm says what the ensemble's uncertainty along the way does to them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reverie.checks import check_fields
from reverie.data import Dataset, Gaussian, MinMax, Normaliser, Spec, Transitions, concatenate, transitions
from reverie.errors import DataError, ReverieError
from reverie.networks import MLP
from reverie.networks.layers import concatenate as beside
from reverie.rl import NormalActor, over_rows
from reverie.synthesizers import transition
from reverie.synthesizers.ensemble import Bootstraps, Ensemble, errors, outcome, states
from reverie.training.progress import wait
from reverie.training.state import Optimised, optimiser

SHARE_HELD_OUT = 5
"""At most every fifth row is held out."""
PASSES = 200
"""Of rollouts for one chunk, at most: one is enough where no rollout is cut."""


class Models(eqx.Module):
    """What is learned."""

    dynamics: Ensemble
    ending: MLP
    policy: NormalActor


class State(eqx.Module):
    models: Optimised


class Ready(NamedTuple):
    """What rollouts are made with."""

    models: Models
    """With the elites alone."""
    bound: jax.Array
    """Of the uncertainty, a scalar."""
    lowest_reward: jax.Array
    """Of the rows kept."""


@dataclass(frozen=True)
class ModelRollouts:
    """The frame of MBPO's, MOReL's and TATU's data."""

    name: ClassVar[str]
    role: ClassVar = "synthesizer"
    needs: ClassVar = ("rewards", "terminals")
    acting_fields: ClassVar[tuple[str, ...]] = ("horizon", "chunk")
    limits: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("members", "elites", "batch_size", "held_out", "kept_rows", "horizon", "chunk"), 1),
        "learning_rate": (1e-12, 1.0),
        "weight_decay": 0.0,
    }
    """The smallest value, or the smallest and the largest, of the fields that have them."""

    members: int = 7
    """Networks of the ensemble."""
    elites: int = 5
    """Of which so many are used, those of the least error on held-out rows."""
    hidden: tuple[int, ...] = (200, 200, 200, 200)
    """Widths of the ensemble's hidden layers."""
    policy_hidden: tuple[int, ...] = (256, 256)
    """Widths of the behaviour policy's hidden layers, and of the classifier of ends."""
    batch_size: int = 256
    """Transitions an update, for every member others."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    weight_decay: float = 5e-5
    """Weight of the squares of the ensemble's weights; PETS has 2.5e-5 in the first layer to 1e-4 in the last."""
    held_out: int = 1000
    """Rows that are not trained on, to choose the elites; at most a fifth of the data."""
    kept_rows: int = 100_000
    """Rows of the data that stay with the run: rollouts start in their states, and thresholds are measured by them."""
    horizon: int = 5
    """Longest rollout, in steps."""
    chunk: int = 1000
    """Rows generated, and kept on the disk, at a time. Another number makes other data."""

    def __post_init__(self):
        check_fields(self, self.limits)
        if self.elites > self.members:
            raise ReverieError(f"elites = {self.elites} exceeds members = {self.members}")

    @property
    def optimiser(self):
        return optimiser(self.learning_rate)

    def prepare(self, data: Dataset):
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
        spec = self.spec(data, order[: self.kept_rows])
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
        dynamics, ending, policy = jax.random.split(key, 3)
        s, a = spec.observation_dim, spec.action_dim
        models = Models(
            Ensemble(dynamics, s, a, members=self.members, hidden=self.hidden),
            MLP(ending, 2 * s + a, 1, hidden=self.policy_hidden, activation=jax.nn.silu),
            NormalActor(policy, s, a, per_state=True, hidden=self.policy_hidden),
        )
        return State(Optimised.create(models, self.optimiser))

    def update(self, state: State, batch, key) -> tuple[State, dict[str, jax.Array]]:
        """A step of all networks; classifier and policy see a row each of the members' `[B, E, ...]`."""
        place = jnp.arange(self.batch_size)
        own = {name: rows[place, place % self.members] for name, rows in batch.items()}
        every = {name: jnp.swapaxes(rows, 0, 1) for name, rows in batch.items()}
        inputs = beside(own["observations"], own["actions"], own["next_observations"])

        def loss(models: Models):
            y = beside(every["changes"], every["rewards"][..., None])
            error, metrics = models.dynamics.loss(every["observations"], every["actions"], y, self.weight_decay)
            logit = models.ending(inputs)[:, 0]
            ending = optax.sigmoid_binary_cross_entropy(logit, own["terminals"]).mean()
            cloning = -models.policy(own["observations"]).log_prob(own["actions"]).mean()
            return error + ending + cloning, metrics | {"ending_loss": ending, "policy_loss": cloning}

        gradient, metrics = jax.grad(loss, has_aux=True)(state.models.params)
        return State(state.models.apply(gradient, self.optimiser)), metrics

    def generate(self, state: State, spec: Spec, key, n: int) -> Dataset:
        """n steps of rollouts; each rollout is an episode, ended by a terminal or cut."""
        return concatenate(*self.chunks(state, spec, key, n))

    def chunks(self, state: State, spec: Spec, key, n: int, start: int = 0) -> Iterator[Dataset]:
        """Rows start, ..., n - 1 of `generate`, a chunk at a time; `start` is a multiple of `chunk`.

        Chunk i is a function of the state, the specification and of `fold_in(key, i)` alone. Its last rollout is cut
        where the chunk is full. Raises ReverieError where hardly any step passes the threshold.
        """
        ready = self.ready(state, spec)
        for first in range(start, n, self.chunk):
            parts: Any = self.packed(ready, spec, jax.random.fold_in(key, first // self.chunk))
            rows = min(self.chunk, n - first)
            parts["timeouts"][rows - 1] = not parts["terminals"][rows - 1]
            yield transition.dataset(parts, spec, rows, name=f"synthetic data by {self.name}", synthetic=True)

    @partial(jax.jit, static_argnums=0)
    def ready(self, state: State, spec: Spec) -> Ready:
        """The elites, by their error on the held-out rows, and the bound of their uncertainty, by the rows kept."""
        models, held = state.models.params, self.count_held_out(spec)
        error = errors(models.dynamics, {name: rows[:held] for name, rows in spec.kept.items()}, spec)
        models = replace(models, dynamics=models.dynamics.elites(error, self.elites))
        return Ready(models, self.bound(models.dynamics, spec), spec.kept["rewards"].min())

    def bound(self, dynamics: Ensemble, spec: Spec) -> jax.Array:
        """Of the uncertainty in rollouts, by the elites `dynamics`."""
        return jnp.float32(jnp.inf)

    def uncertainty(self, means) -> jax.Array:
        """Of the members' means of the next state `[E, ..., observation]`, in its deviations: `[...]`."""
        return jnp.zeros(means.shape[1:-1])

    def largest_uncertainty(self, dynamics: Ensemble, spec: Spec) -> jax.Array:
        """Of the rows kept."""

        def piece(pairs, key):
            mean, _ = dynamics(*jnp.split(pairs, [spec.observation_dim], -1))
            return self.uncertainty(states(mean, spec))

        pairs = beside(*(spec.normalise(name, spec.kept[name]) for name in ("observations", "actions")))
        return over_rows(piece, pairs, jax.random.key(0)).max()

    def packed(self, ready: Ready, spec: Spec, key) -> dict[str, np.ndarray]:
        """A chunk of rows, from as many passes of rollouts as it takes."""
        passes: list[dict[str, np.ndarray]] = []
        count = 0
        while count < self.chunk and len(passes) < PASSES:
            rows = self.rollouts(ready, spec, jax.random.fold_in(key, len(passes)))
            wait(rows["valid"])
            passes.append(pack(jax.device_get(rows)))
            count += len(passes[-1]["actions"])
        if count < self.chunk:
            raise ReverieError(
                f"{PASSES * self.starts} rollouts came to {count} steps, and a chunk has {self.chunk}: nearly all pass "
                f"the bound of the uncertainty, {float(ready.bound):.3g}, at once; raise the threshold or train longer."
            )
        return {name: np.concatenate([each[name] for each in passes])[: self.chunk] for name in passes[0]}

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
            observations, going, spent = carry
            row, uncertainty = self.step(ready.models, spec, observations, key)
            row, kept, spent = self.judge(row, uncertainty, spent, ready)
            valid = going & kept
            return (row["next_observations"], valid & ~row["terminals"], spent), row | {"valid": valid}

        begin = (first, jnp.ones(self.starts, bool), jnp.zeros(self.starts))
        _, rows = jax.lax.scan(step, begin, jax.random.split(key, self.horizon))
        return {name: jnp.swapaxes(each, 0, 1) for name, each in rows.items()}

    def step(self, models: Models, spec: Spec, observations, key) -> tuple[dict[str, jax.Array], jax.Array]:
        """One step from `[n, observation]` by the policy and a random member each, and the uncertainty `[n]` of it."""
        policy_key, member_key, noise_key, end_key = jax.random.split(key, 4)
        s = spec.normalise("observations", observations)
        a = jnp.clip(models.policy(s).sample(policy_key), -1, 1)
        mean, log_variance = models.dynamics(s, a)
        chosen = jax.random.randint(member_key, (len(s),), 0, len(mean)), jnp.arange(len(s))
        y = mean[chosen] + jnp.exp(log_variance[chosen] / 2) * jax.random.normal(noise_key, mean.shape[1:])
        following, rewards = outcome(y, observations, spec)
        logit = models.ending(beside(s, a, spec.normalise("observations", following)))
        ends = jax.random.bernoulli(end_key, jax.nn.sigmoid(logit)).astype(jnp.float32)
        row = {
            "observations": observations,
            "actions": jnp.clip(spec.denormalise("actions", a), spec.action_low, spec.action_high),
            "rewards": rewards,
            "next_observations": following,
            "terminals": spec.denormalise("terminals", ends)[:, 0] > 0.5,
        }
        return row, self.uncertainty(states(mean, spec))

    def judge(self, row: dict[str, jax.Array], uncertainty, spent, ready: Ready):
        """What becomes of a step of such uncertainty `[n]`: the row as it is told, whether it is kept `[n]`, and what
        was spent on the way, with this step `[n]`."""
        return row, jnp.ones(len(spent), bool), spent


def pack(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The valid steps of rollouts `[n, horizon, ...]`, one after another, with `timeouts` where a rollout is cut.

    `valid` holds for the first steps of a rollout, some or none.
    """
    valid = rows["valid"]
    last = valid & ~np.pad(valid[:, 1:], ((0, 0), (0, 1)))
    rows = {**rows, "timeouts": last & ~rows["terminals"]}
    return {name: each[valid] for name, each in rows.items() if name != "valid"}
