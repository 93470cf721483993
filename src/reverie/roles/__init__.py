"""What else a diffusion model can be in reinforcement learning: a value, a reward."""

from reverie.roles.dvf import DVF
from reverie.roles.relative_reward import RelativeReward

__all__ = ["DVF", "RelativeReward"]
