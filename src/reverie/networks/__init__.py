"""Backbones: Equinox modules whose leaves are arrays only, on inputs of any leading batch shape."""

from .embeddings import TimeMLP, sinusoidal
from .layers import Linear, mish, parameter_count
from .unet import TemporalUNet, WindowValue

__all__ = ["Linear", "TemporalUNet", "TimeMLP", "WindowValue", "mish", "parameter_count", "sinusoidal"]
