"""Actors of one shot: deterministic, Gaussian, and Gaussian squashed into the bounds. Actions live in [-1, 1]."""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from reverie.networks import MLP
from reverie.networks.layers import Activation


class Normal(NamedTuple):
    """A diagonal Gaussian over actions `[..., action]`."""

    mean: jax.Array
    std: jax.Array

    @property
    def mode(self) -> jax.Array:
        return self.mean

    def sample(self, key, shape: tuple[int, ...] = ()) -> jax.Array:
        """`[*shape, ..., action]`."""
        return self.mean + self.std * jax.random.normal(key, shape + self.mean.shape)

    def log_prob(self, action) -> jax.Array:
        """`[...]`, summed over the action's entries."""
        z = (action - self.mean) / self.std
        return -(jnp.square(z) / 2 + jnp.log(self.std) + math.log(2 * math.pi) / 2).sum(-1)

    def only(self, which) -> "Normal":
        """With the entries that are not in `which`, bool `[..., action]`, of mean 0 and density 1 there: an action that
        is 0 in them is as likely as without them."""
        return Normal(jnp.where(which, self.mean, 0), jnp.where(which, self.std, 1 / math.sqrt(2 * math.pi)))

    def kl_divergence(self, other: "Normal") -> jax.Array:
        """KL(self | other): `[...]`, summed over the entries."""
        ratio = jnp.square(self.std / other.std)
        return (ratio + jnp.square((self.mean - other.mean) / other.std) - 1 - jnp.log(ratio)).sum(-1) / 2


class NormalMixture(NamedTuple):
    """A mixture of K Gaussians over arrays `[..., H, D]`, each of which is diagonal (Bishop 1994)."""

    logits: jax.Array
    """Of the components, `[..., K]`."""
    mean: jax.Array
    """`[..., K, H, D]`."""
    std: jax.Array
    """`[..., K, H, D]`."""

    def log_prob(self, x, inside=1.0) -> jax.Array:
        """`[...]`, summed over the entries whose rows are `inside` (1 or 0, `[..., H]`)."""
        z = (x[..., None, :, :] - self.mean) / self.std
        each = -(jnp.square(z) / 2 + jnp.log(self.std) + math.log(2 * math.pi) / 2).sum(-1)
        rows = jnp.broadcast_to(inside, x.shape[:-1])[..., None, :]
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + (rows * each).sum(-1), -1)

    def sample(self, key, noise: float = 1.0) -> jax.Array:
        """`[..., H, D]`; `noise` multiplies the components' standard deviations."""
        which_key, noise_key = jax.random.split(key)
        which = jax.random.categorical(which_key, self.logits)[..., None, None, None]
        mean, std = (jnp.take_along_axis(x, which, -3)[..., 0, :, :] for x in (self.mean, self.std))
        return mean + noise * std * jax.random.normal(noise_key, mean.shape)


class TanhNormal(NamedTuple):
    """The tanh of a diagonal Gaussian (Haarnoja et al. 2018, appendix C)."""

    mean: jax.Array
    std: jax.Array

    @property
    def mode(self) -> jax.Array:
        return jnp.tanh(self.mean)

    def sample_and_log_prob(self, key, shape: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
        """Actions `[*shape, ..., action]` and their log density `[*shape, ...]`."""
        normal = Normal(self.mean, self.std)
        u = normal.sample(key, shape)
        # log(1 - tanh²u) in a form that does not cancel.
        slope = 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))
        return jnp.tanh(u), normal.log_prob(u) - slope.sum(-1)


class DeterministicActor(eqx.Module):
    """tanh of an MLP: `[..., observation] -> [..., action]`."""

    net: MLP

    def __init__(self, key, observation_dim: int, action_dim: int, *, hidden: tuple[int, ...]):
        self.net = MLP(key, observation_dim, action_dim, hidden=hidden, activation=jax.nn.relu)

    def __call__(self, observation) -> jax.Array:
        return jnp.tanh(self.net(observation))


class NormalActor(eqx.Module):
    """A Gaussian whose mean is the tanh of an MLP, and whose standard deviation is learned: one for all states (as in
    IQL and AWAC), or `per_state`."""

    net: MLP
    log_std: jax.Array | None

    def __init__(
        self,
        key,
        observation_dim: int,
        action_dim: int,
        *,
        hidden: tuple[int, ...],
        per_state: bool = False,
        activation: Activation = jax.nn.relu,
        layer_norm: bool = False,
    ):
        out = (1 + per_state) * action_dim
        self.net = MLP(key, observation_dim, out, hidden=hidden, activation=activation, layer_norm=layer_norm)
        self.log_std = None if per_state else jnp.zeros(action_dim)

    def __call__(self, observation) -> Normal:
        out = self.net(observation)
        mean, log_std = jnp.split(out, 2, -1) if self.log_std is None else (out, self.log_std)
        return Normal(jnp.tanh(mean), jnp.broadcast_to(jnp.exp(jnp.clip(log_std, -5, 2)), mean.shape))


class TanhNormalActor(eqx.Module):
    """SAC's actor: a Gaussian of the state, squashed by tanh."""

    net: MLP

    def __init__(self, key, observation_dim: int, action_dim: int, *, hidden: tuple[int, ...]):
        self.net = MLP(key, observation_dim, 2 * action_dim, hidden=hidden, activation=jax.nn.relu)

    def __call__(self, observation) -> TanhNormal:
        mean, log_std = jnp.split(self.net(observation), 2, -1)
        return TanhNormal(mean, jnp.exp(jnp.clip(log_std, -20, 2)))
