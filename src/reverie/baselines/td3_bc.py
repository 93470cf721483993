"""TD3+BC (Fujimoto & Gu 2021, "A Minimalist Approach to Offline Reinforcement Learning").

TD3 with a behaviour cloning loss: -lambda Q(s, pi(s)) + (pi(s) - a)^2 with lambda = alpha / mean |Q|.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.rl import Critic, DelayedActorCritic, magnitude
from reverie.settings import NonNegative


@dataclass(frozen=True)
class TD3BC(DelayedActorCritic):
    """TD3+BC."""

    name: ClassVar = "td3-bc"
    paper: ClassVar = "Fujimoto & Gu 2021"

    standardise: bool = True
    """Whether the networks see observations of mean 0 and standard deviation 1."""
    alpha: NonNegative = 2.5
    """Weight of Q, in units of its mean magnitude, against the behaviour cloning loss; 0 is behaviour cloning."""

    def actor_loss(self, net, critic: Critic, batch) -> jax.Array:
        action = net(batch["observations"])
        q = critic.online.params.first(batch["observations"], action)[0]
        weight = self.alpha / magnitude(q)
        return self.distance(net, action, batch["actions"]) - weight * q.mean()

    def distance(self, net, action, wanted) -> jax.Array:
        """The behaviour cloning loss, of the actions `[B, action]` that `net` made."""
        return jnp.square(action - wanted).mean()
