"""Reverie: diffusion and flow models in reinforcement learning."""

__version__ = "0.1.0"
