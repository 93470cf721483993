"""A recurrent state-space model of vectors (Hafner et al. 2019, PlaNet): what Dreamer imagines in.

A step's latent has a part that is computed, by a GRU, of the latent and the action before, and a Gaussian part: the
prior is told what was computed, the posterior the observation as well.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from reverie.networks import GRU, MLP
from reverie.networks.layers import concatenate
from reverie.rl import Normal

MIN_STD = 0.1
"""Of the Gaussian part."""


class Latent(NamedTuple):
    computed: jax.Array
    """`[..., width]`."""
    drawn: jax.Array
    """`[..., size]`."""

    @property
    def features(self) -> jax.Array:
        return concatenate(self.computed, self.drawn)


class LatentModel(eqx.Module):
    """Latents of steps in a row, and what they tell: observations, rewards and ends, in network units."""

    cell: GRU
    prior_net: MLP
    posterior_net: MLP
    observation_net: MLP
    reward_net: MLP
    ending_net: MLP
    size: int = eqx.field(static=True)

    def __init__(
        self, key, observation_dim: int, action_dim: int, *, width: int, size: int, hidden: tuple[int, ...]
    ) -> None:
        keys, features = jax.random.split(key, 6), width + size

        def net(key, n_in, n_out):
            return MLP(key, n_in, n_out, hidden=hidden, activation=jax.nn.elu)

        self.cell = GRU(keys[0], size + action_dim, width)
        self.prior_net = net(keys[1], width, 2 * size)
        self.posterior_net = net(keys[2], width + observation_dim, 2 * size)
        self.observation_net = net(keys[3], features, observation_dim)
        self.reward_net = net(keys[4], features + action_dim, 1)
        self.ending_net = net(keys[5], features + action_dim, 1)
        self.size = size

    def initial(self, batch: tuple[int, ...] = ()) -> Latent:
        """Before the first step of an episode: 0, as is the action before it."""
        return Latent(self.cell.initial(batch), jnp.zeros((*batch, self.size)))

    def computed(self, latent: Latent, actions) -> jax.Array:
        """What the next latent has of the last and an action `[..., action]`."""
        return self.cell(concatenate(latent.drawn, actions), latent.computed)

    def prior(self, computed) -> Normal:
        return gaussian(self.prior_net(computed))

    def posterior(self, computed, observations) -> Normal:
        return gaussian(self.posterior_net(concatenate(computed, observations)))

    def next(self, latent: Latent, actions, key) -> Latent:
        """What follows an action, unobserved."""
        computed = self.computed(latent, actions)
        return Latent(computed, self.prior(computed).sample(key))

    def observed(self, latent: Latent, actions, observations, key) -> Latent:
        """What follows an action, where this was observed."""
        computed = self.computed(latent, actions)
        return Latent(computed, self.posterior(computed, observations).sample(key))

    def observation(self, latent: Latent) -> jax.Array:
        return self.observation_net(latent.features)

    def reward(self, latent: Latent, actions) -> jax.Array:
        """Of an action `[..., action]` there, `[...]`."""
        return self.reward_net(concatenate(latent.features, actions))[..., 0]

    def ending(self, latent: Latent, actions) -> jax.Array:
        """The logit of the probability that an action there ends the task, `[...]`."""
        return self.ending_net(concatenate(latent.features, actions))[..., 0]

    def loss(self, batch, key, *, balance: float, free_nats: float, std: float):
        """Of steps in a row `[B, T, ...]` that count where their `mask` `[B, T]` is 1: minus the evidence's lower
        bound, a mean over steps, with observations and rewards of standard deviation `std`; the metrics, and the
        latents `[B, T, ...]`.

        The KL divergence of the posterior and the prior counts from `free_nats` on, on average; a share `balance` of
        its gradient moves the prior, the rest the posterior (Hafner et al. 2021, Algorithm 2).
        """
        rows = {name: jnp.swapaxes(batch[name], 0, 1) for name in batch if name != "index"}
        before = jnp.concatenate([jnp.zeros_like(rows["actions"][:1]), rows["actions"][:-1]])

        def step(latent, given):
            observations, actions, key = given
            computed = self.computed(latent, actions)
            prior, posterior = self.prior(computed), self.posterior(computed, observations)
            latent = Latent(computed, posterior.sample(key))
            return latent, (latent, prior, posterior)

        steps, n = rows["mask"].shape
        given = rows["observations"], before, jax.random.split(key, steps)
        _, (latents, prior, posterior) = jax.lax.scan(step, self.initial((n,)), given)
        weight = rows["mask"] / rows["mask"].sum()
        square = jnp.square(self.observation(latents) - rows["observations"])
        seen = (weight * square.sum(-1)).sum() / 2
        reward_error = jnp.square(self.reward(latents, rows["actions"]) - rows["rewards"])
        paid = (weight * reward_error).sum() / 2
        logit = self.ending(latents, rows["actions"])
        ended = (weight * optax.sigmoid_binary_cross_entropy(logit, rows["terminals"])).sum()
        kept = jax.lax.stop_gradient
        towards = (weight * Normal(*map(kept, posterior)).kl_divergence(prior)).sum()
        back = (weight * posterior.kl_divergence(Normal(*map(kept, prior)))).sum()
        kl = balance * jnp.maximum(towards, free_nats) + (1 - balance) * jnp.maximum(back, free_nats)
        metrics = {"observation_error": (weight * square.mean(-1)).sum(), "kl": towards, "ending_loss": ended}
        loss = (seen + paid) / std**2 + ended + kl
        return loss, (metrics | {"model_loss": loss}, jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), latents))


def gaussian(out) -> Normal:
    mean, std = jnp.split(out, 2, -1)
    return Normal(mean, jax.nn.softplus(std) + MIN_STD)
