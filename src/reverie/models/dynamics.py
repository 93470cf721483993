"""Learned dynamics that one can act in: an ensemble, a classifier of ends, and the data's policy, trained together.

The ensemble moves the state and pays the reward. A classifier of (s, a, s') tells whether the task ended: the rule is
the environment's, which the library does not know; ends are drawn by its probability, so that they are as frequent as
in the data. A Gaussian policy, cloned from the data, acts.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reverie.data import Spec
from reverie.learning import map_rows
from reverie.models.ensemble import Ensemble, outcome, states
from reverie.networks import MLP
from reverie.networks.layers import concatenate
from reverie.rl import NormalActor

Rows = dict[str, jax.Array]


class Outcomes(eqx.Module):
    """What follows a step: the state, the reward and the end."""

    ensemble: Ensemble
    ending: MLP

    def __init__(
        self, key, observation_dim: int, action_dim: int, *, members: int, hidden: tuple, ending_hidden: tuple
    ):
        ensemble, ending, _ = jax.random.split(key, 3)  # the third is the policy's
        s, a = observation_dim, action_dim
        self.ensemble = Ensemble(ensemble, s, a, members=members, hidden=hidden)
        self.ending = MLP(ending, 2 * s + a, 1, hidden=ending_hidden, activation=jax.nn.silu)

    def loss(self, batch: Rows, weight_decay: float) -> tuple[jax.Array, Rows]:
        """Of all networks, of rows `[B, E, ...]` that every member has of its own, with `changes` beside them; the
        classifier sees a row each of the members'."""
        every = {name: jnp.swapaxes(rows, 0, 1) for name, rows in batch.items()}
        y = concatenate(every["changes"], every["rewards"][..., None])
        error, metrics = self.ensemble.loss(every["observations"], every["actions"], y, weight_decay)
        ending = self.ending_loss(shared(batch))
        return error + ending, metrics | {"ending_loss": ending}

    def ending_loss(self, rows: Rows) -> jax.Array:
        """The classifier's cross-entropy on rows `[B, ...]`, a scalar."""
        logit = self.end(rows["observations"], rows["actions"], rows["next_observations"])
        return optax.sigmoid_binary_cross_entropy(logit, rows["terminals"]).mean()

    def errors(self, rows: Rows) -> dict[str, jax.Array]:
        """Of each part, by its name, on the same rows `[m, ...]`: for `learning.Snapshots`."""
        y = concatenate(rows["changes"], rows["rewards"][:, None])
        members = self.ensemble.errors(rows["observations"], rows["actions"], y)
        return {"ensemble": members, "ending": self.ending_loss(rows)}

    def end(self, observations, actions, next_observations) -> jax.Array:
        """The logit of the probability that a step ended the task, `[...]`, of `[..., n]` in network units."""
        return self.ending(concatenate(observations, actions, next_observations))[..., 0]

    def follow(self, spec: Spec, observations, actions, keys) -> tuple[Rows, jax.Array]:
        """One step from `[n, observation]`, in the data's units, by actions `[n, action]` in network units and a random
        member each, by three keys; and the means of all members' next states `[E, n, observation]`, in the
        observations' standard deviations."""
        member_key, noise_key, end_key = keys
        s, a = spec.normalise("observations", observations), jnp.clip(actions, -1, 1)
        mean, log_variance = self.ensemble(s, a)
        chosen = jax.random.randint(member_key, (len(s),), 0, len(mean)), jnp.arange(len(s))
        y = mean[chosen] + jnp.exp(log_variance[chosen] / 2) * jax.random.normal(noise_key, mean.shape[1:])
        next_observations, rewards = outcome(y, observations, spec)
        logit = self.end(s, a, spec.normalise("observations", next_observations))
        ends = jax.random.bernoulli(end_key, jax.nn.sigmoid(logit))[:, None].astype(jnp.float32)
        row = {
            "observations": observations,
            "actions": jnp.clip(spec.denormalise("actions", a), spec.action_low, spec.action_high),
            "rewards": rewards,
            "next_observations": next_observations,
            "terminals": spec.denormalise("terminals", ends)[:, 0] > 0.5,
        }
        return row, states(mean, spec)


class Dynamics(Outcomes):
    """What is learned to act in."""

    policy: NormalActor

    def __init__(
        self, key, observation_dim: int, action_dim: int, *, members: int, hidden: tuple[int, ...], policy_hidden: tuple
    ):
        """The classifier of ends has the policy's hidden layers."""
        super().__init__(key, observation_dim, action_dim, members=members, hidden=hidden, ending_hidden=policy_hidden)
        policy_key = jax.random.split(key, 3)[2]
        self.policy = NormalActor(policy_key, observation_dim, action_dim, per_state=True, hidden=policy_hidden)

    def loss(self, batch: Rows, weight_decay: float) -> tuple[jax.Array, Rows]:
        """As of outcomes; the policy sees the classifier's rows."""
        loss, metrics = super().loss(batch, weight_decay)
        bc_loss = self.bc_loss(shared(batch))
        return loss + bc_loss, metrics | {"bc_loss": bc_loss}

    def bc_loss(self, rows: Rows) -> jax.Array:
        """The policy's negative log-likelihood of rows `[B, ...]`, a scalar."""
        return -self.policy(rows["observations"]).log_prob(rows["actions"]).mean()

    def step(self, spec: Spec, observations, key) -> tuple[Rows, jax.Array]:
        """As `follow`, by the policy."""
        policy_key, *keys = jax.random.split(key, 4)
        s = spec.normalise("observations", observations)
        return self.follow(spec, observations, self.policy(s).sample(policy_key), keys)


def shared(batch: Rows) -> Rows:
    """Of rows that every member has of its own, `[B, E, ...]`, one of a member each: `[B, ...]`."""
    size, members = batch["actions"].shape[:2]
    place = jnp.arange(size)
    return {name: rows[place, place % members] for name, rows in batch.items()}


def largest_uncertainty(ensemble: Ensemble, spec: Spec, rows: Rows, uncertainty: Callable) -> jax.Array:
    """Of the members' means over the rows, in the data's units; `uncertainty` is a function of the means of the next
    state `[E, ..., observation]`."""

    def piece(pairs, key):
        mean, _ = ensemble(*jnp.split(pairs, [spec.observation_dim], -1))
        return uncertainty(states(mean, spec))

    pairs = concatenate(*(spec.normalise(name, rows[name]) for name in ("observations", "actions")))
    return map_rows(piece, pairs, jax.random.key(0)).max()


def pack(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The valid steps of rollouts `[n, horizon, ...]`, one after another, with `timeouts` where a rollout is cut.

    `valid` holds for the first steps of a rollout, some or none.
    """
    valid = rows["valid"]
    last = valid & ~np.pad(valid[:, 1:], ((0, 0), (0, 1)))
    rows = {**rows, "timeouts": last & ~rows["terminals"]}
    return {name: each[valid] for name, each in rows.items() if name != "valid"}


def rollout(step: Callable[[Any, Any], tuple[Any, Rows]], carry: Any, key, horizon: int) -> Rows:
    """`horizon` steps `(carry, key) -> (carry, rows [n, ...])`, one after another: `[n, horizon, ...]`."""
    _, rows = jax.lax.scan(step, carry, jax.random.split(key, horizon))
    return {name: jnp.swapaxes(each, 0, 1) for name, each in rows.items()}
