"""What else a diffusion model can be in reinforcement learning: a value, a reward, a maker of tasks, a world."""

from reverie.roles.dvf import DVF
from reverie.roles.latent_dynamics import LatentDynamics
from reverie.roles.polygrad import PolyGRAD
from reverie.roles.relative_reward import RelativeReward
from reverie.roles.simulation import GenerativeSimulation

__all__ = ["DVF", "GenerativeSimulation", "LatentDynamics", "PolyGRAD", "RelativeReward"]
