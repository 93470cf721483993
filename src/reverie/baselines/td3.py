"""TD3 (Fujimoto et al. 2018, "Addressing Function Approximation Error in Actor-Critic Methods")."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import jax

from reverie.rl import Critic, DelayedActorCritic
from reverie.settings import Acting, NonNegative


@dataclass(frozen=True)
class TD3(DelayedActorCritic):
    """TD3: a deterministic actor that maximises the first of two critics. On a fixed data set it diverges."""

    name: ClassVar = "td3"
    paper: ClassVar = "Fujimoto et al. 2018"

    critic_layer_norm: bool = False
    """Whether the critics' hidden layers are normalised. What they say far from what was tried, the next steps
    correct."""
    noise: Acting[NonNegative] = 0.0
    """Standard deviation of what is added to an action, in units of half the bounds' width."""
    exploring_noise: NonNegative = 0.1
    """The same while data is collected."""

    @property
    def exploring(self) -> Self:
        """How it acts while it collects data."""
        return replace(self, noise=self.exploring_noise)

    def actor_loss(self, net, critic: Critic, batch) -> jax.Array:
        return -critic.online.params.first(batch["observations"], net(batch["observations"])).mean()

    def choose(self, state, spec, observation, key):
        action = state.actor.params(observation)
        return action + self.noise * jax.random.normal(key, action.shape)
