"""ReBRAC (Tarasov et al. 2023, "Revisiting the Minimalist Approach to Offline Reinforcement Learning").

TD3+BC with a behaviour cloning penalty in the critics' targets as well, each penalty with a weight of its own, critics
with layer norm, and deeper networks.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from reverie.baselines.td3_bc import TD3BC
from reverie.data import sarsa
from reverie.rl import Critic, DelayedState, magnitude, minimum
from reverie.settings import Count, LearningRate, NonNegative


@dataclass(frozen=True)
class ReBRAC(TD3BC):
    """ReBRAC: TD3+BC whose actor and critics are held to the data's actions separately."""

    name: ClassVar = "rebrac"
    paper: ClassVar = "Tarasov et al. 2023"
    view: ClassVar = staticmethod(sarsa)

    standardise: bool = False
    """Whether the networks see observations of mean 0 and standard deviation 1."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the critics' hidden layers."""
    batch_size: Count = 1024
    """Transitions an update."""
    learning_rate: LearningRate = 1e-3
    """Adam's step size."""
    alpha: NonNegative = 1.0
    """Weight of Q, in units of its mean magnitude, in the actor's loss; 0 is behaviour cloning."""
    actor_penalty: NonNegative = 0.01
    """Weight of the squared distance to the data's action, in the actor's loss; chosen a task, 0.001 to 0.1."""
    critic_penalty: NonNegative = 0.01
    """Weight of the squared distance to the data's next action, in the critics' targets; chosen a task, 0 to 0.5."""

    def next_value(self, state: DelayedState, batch, key) -> jax.Array:
        next_actions = self.next_actions(state, batch, key)
        value = state.critic.target(batch["next_observations"], next_actions).min(0)
        return value - self.critic_penalty * jnp.square(next_actions - batch["next_actions"]).sum(-1)

    def actor_loss(self, net, critic: Critic, batch) -> jax.Array:
        action = net(batch["observations"])
        q = minimum(critic.online.params(batch["observations"], action))
        weight = self.alpha / magnitude(q)
        penalty = jnp.square(action - batch["actions"]).sum(-1).mean()
        return self.actor_penalty * penalty - weight * q.mean()
