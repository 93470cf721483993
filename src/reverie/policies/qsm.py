"""Q-score matching (Psenka et al. 2024, "Learning a Diffusion Model Policy from Rewards via Q-Score Matching").

The policy's score is fitted to Q's gradient by the action, at every noise level: no action of the data is imitated.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.diffusion.process import expand
from reverie.rl import OnlineDiffusion, OnlineState
from reverie.settings import Positive


@dataclass(frozen=True)
class QSM(OnlineDiffusion):
    """QSM: a policy whose score is Q's gradient."""

    name: ClassVar = "qsm"
    paper: ClassVar = "Psenka et al. 2024"

    temperature: Positive = 0.02
    """Of the policy, exp(Q / temperature) where there is no noise; the released code's M_q is its inverse, 50."""

    def actor_loss(self, net, state: OnlineState, batch, key) -> jax.Array:
        """With eps = -sigma_t grad Q(s, a_t) / temperature, what that score is in units of the noise, of the critics'
        mean as in the released code. That leaves out sigma_t, by which its policy is too narrow."""
        time_key, noise_key = jax.random.fold_in(key, 2), jax.random.fold_in(key, 3)
        s, a = batch["observations"], batch["actions"]
        t = self.process.draw_times(time_key, a.shape[:1])
        noisy = self.process.perturb(a, t, jax.random.normal(noise_key, a.shape))
        slope = jax.grad(lambda actions: state.critic.online.params(s, actions).mean(0).sum())(noisy)
        wanted = -expand(self.process.sigma(t), a) * slope / self.temperature
        return jnp.square(self.process.network(net, noisy, t, s) - wanted).mean()
