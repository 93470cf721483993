"""SDAC (Ma et al. 2025, "Efficient Online Reinforcement Learning for Diffusion Policy"; Dong et al. 2025, "Maximum
Entropy Reinforcement Learning with Diffusion Policy", have the same estimate).

The policy is exp(Q / temperature) itself: its noise, given a noisy action, is estimated by importance sampling from the
actions that the noise may have come from, so that no sample of the policy is needed to learn it.

Beside flow-rl's form, whose temperature this has: actions are drawn within the bounds, 64 of them and there 500; the
best of 32 acts, there of 10; one with noise explores, there without; and td_target has the slow copy's action, there
and in the authors' own code the present policy's.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.diffusion.process import expand
from reverie.rl import OnlineDiffusion, OnlineState
from reverie.settings import Acting, Count, Positive


@dataclass(frozen=True)
class SDAC(OnlineDiffusion):
    """SDAC: the policy exp(Q / temperature) by reverse sampling."""

    name: ClassVar = "sdac"
    paper: ClassVar = "Ma et al. 2025"

    temperature: Positive = 0.05
    """Of the policy, in the units of Q. 0.05 is flow-rl's; the authors' own code begins at 5 and comes near 1."""
    particles: Count = 64
    """Actions that are weighed for each noisy one."""
    candidates: Acting[Count] = 32
    """Actions drawn to act, of which the best by Q is taken."""

    def actor_loss(self, net, state: OnlineState, batch, key) -> jax.Array:
        time_key, noise_key, key = (jax.random.fold_in(key, i) for i in (2, 3, 4))
        s, a = batch["observations"], batch["actions"]
        t = self.process.draw_times(time_key, a.shape[:1])
        noisy = self.process.perturb(a, t, jax.random.normal(noise_key, a.shape))
        wanted = self.mean_noise(lambda actions: self.values(state, s, actions), noisy, t, key)
        return jnp.square(self.process.network(net, noisy, t, s) - wanted).mean()

    def mean_noise(self, q, noisy, t, key) -> jax.Array:
        """E[eps | a_t] `[B, action]` where actions a in the bounds have density exp(q(a) / temperature).

        Given a_t alone, eps = (a_t - alpha a) / sigma is normal within what the bounds allow; of these it is the mean
        by importance, with q of the `[B, particles, action]` they belong to.
        """
        alpha, sigma = expand(self.process.alpha(t), noisy)[:, None], expand(self.process.sigma(t), noisy)[:, None]
        x = noisy[:, None]
        low, high = (x - alpha) / sigma, (x + alpha) / sigma
        eps = jax.random.truncated_normal(key, low, high, (len(noisy), self.particles, noisy.shape[-1]))
        weight = jax.nn.softmax(q((x - sigma * eps) / alpha) / self.temperature)
        return (weight[..., None] * eps).sum(1)
