"""An ensemble of Gaussian models of the dynamics (PETS, Chua et al. 2018; as used by MBPO, Janner et al. 2019).

Every member predicts the change of the state and the reward, y = (s' - s, r), from (s, a), all in standard units. They
differ in their first weights and in the rows they learn from: each has a bootstrap of its own, as many rows as the data
has, drawn with replacement. What they disagree about is what the data leaves open.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.data import Spec, Transitions
from reverie.data.views import View
from reverie.networks import MLP, apply_ensemble, ensemble
from reverie.networks.layers import concatenate

BOUND_WEIGHT = 0.01
"""How much the loss draws the bounds of the log variance together: PETS's number, which weighs twice as much beside the
likelihood here, as PETS's loss is twice the likelihood's."""


class Ensemble(eqx.Module):
    """E Gaussians of y `[..., observation + 1]` given s `[..., observation]` and a `[..., action]`."""

    nets: MLP
    lowest: jax.Array
    """Of the log variance, softly, and learned, as is `highest`: `[E, observation + 1]`. Each member has its own (PETS
    has one for all), so that a member as it was before is whole."""
    highest: jax.Array

    def __init__(self, key, observation_dim: int, action_dim: int, *, members: int, hidden: tuple[int, ...]):
        sizes = (observation_dim + action_dim, 2 * (observation_dim + 1))
        self.nets = ensemble(lambda key: MLP(key, *sizes, hidden=hidden, activation=jax.nn.silu), key, members)
        self.lowest = jnp.full((members, observation_dim + 1), -10.0)
        self.highest = jnp.full((members, observation_dim + 1), 0.5)

    def __call__(self, observations, actions) -> tuple[jax.Array, jax.Array]:
        """Means and log variances of all members for the same inputs: `[E, ..., observation + 1]` each."""
        return self.bounded(apply_ensemble(self.nets, concatenate(observations, actions)))

    def each(self, observations, actions) -> tuple[jax.Array, jax.Array]:
        """The same where every member has inputs of its own, `[E, ..., n]`."""
        return self.bounded(jax.vmap(lambda net, x: net(x))(self.nets, concatenate(observations, actions)))

    def bounded(self, out) -> tuple[jax.Array, jax.Array]:
        """Of the networks' outputs `[E, ..., 2 (observation + 1)]`."""
        mean, log_variance = jnp.split(out, 2, -1)
        lowest, highest = (jnp.expand_dims(bound, range(1, out.ndim - 1)) for bound in (self.lowest, self.highest))
        log_variance = highest - jax.nn.softplus(highest - log_variance)
        return mean, lowest + jax.nn.softplus(log_variance - lowest)

    def loss(self, observations, actions, y, weight_decay: float) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The members' negative log-likelihood of their own rows `[E, B, n]`, summed over members and averaged over
        rows and columns, with what keeps the weights and the variance's bounds small.

        PETS's loss has no half before its likelihood, and so is twice as large: beside it a `weight_decay` of 5e-5 here
        is one of 1e-4 there.
        """
        mean, log_variance = self.each(observations, actions)
        square = jnp.square(mean - y)
        likelihood = (square * jnp.exp(-log_variance) + log_variance + math.log(2 * math.pi)) / 2
        weights = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(self.nets) if leaf.ndim == 3)
        bounds = BOUND_WEIGHT * (self.highest - self.lowest).mean(0).sum()
        loss = likelihood.mean((1, 2)).sum() + weight_decay / 2 * weights + bounds
        return loss, {"negative_log_likelihood": likelihood.mean(), "model_error": square.mean()}

    def errors(self, observations, actions, y) -> jax.Array:
        """Mean squared error of every member's mean on the same rows `[m, n]`: `[E]`."""
        return jnp.square(self(observations, actions)[0] - y).mean((1, 2))

    def elites(self, errors, n: int) -> "Ensemble":
        """The n members of the least `errors` `[E]`, the best first."""
        best = jnp.argsort(errors)[:n]
        return jax.tree.map(lambda leaf: leaf[best], self)


def outcome(y, observations, spec: Spec) -> tuple[jax.Array, jax.Array]:
    """Next observations `[..., observation]` and rewards `[...]`, from y and the observations, in the data's units."""
    change, reward = spec.denormalise("changes", y[..., :-1]), spec.denormalise("rewards", y[..., -1:])
    return observations + change, reward[..., 0]


def states(mean, spec: Spec) -> jax.Array:
    """What the members' means move the state by, in the observations' standard deviations, but for a constant."""
    return spec.normalise("observations", spec.denormalise("changes", mean[..., :-1]))


def disagreement(means) -> jax.Array:
    """The largest distance between two members' means `[E, ..., d]`: `[...]` (MOReL's)."""
    return jnp.linalg.norm(means[:, None] - means[None], axis=-1).max((0, 1))


def distance_from_mean(means) -> jax.Array:
    """The largest distance of a member's mean `[E, ..., d]` from the mean of all: `[...]` (MOPO's and TATU's)."""
    return jnp.linalg.norm(means - means.mean(0), axis=-1).max(0)


class Bootstraps(View):
    """Rows for every member, from its bootstrap."""

    rows: Transitions
    drawn: jax.Array
    """The bootstraps: int32 `[E, M]`, numbers of rows."""

    def __len__(self) -> int:
        return len(self.rows)

    def index(self, key, batch_size: int) -> jax.Array:
        """Rows of each member's own: int32 `[batch_size, E]`, and so is the first of every batch's axes."""
        members, m = self.drawn.shape
        place = jax.random.randint(key, (batch_size, members), 0, m)
        return jnp.asarray(self.drawn)[jnp.arange(members), place]

    def take(self, index) -> dict[str, jax.Array]:
        return self.rows.take(index)
