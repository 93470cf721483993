"""What else a diffusion model can be in reinforcement learning: a value, a reward."""

from reverie.roles.dvf import DVF

__all__ = ["DVF"]
