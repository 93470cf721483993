"""Backbones: Equinox modules whose leaves are arrays only, on inputs of any leading batch shape."""

from .embeddings import Fourier, Sinusoidal, TimeMLP, sinusoidal
from .layers import LayerNorm, Linear, dropout, mish, parameter_count, torch_default, xavier, zeros
from .mlp import MLP, UMLP, DenoisingMLP, LayerNormResNet, ResidualMLP, apply_ensemble, ensemble
from .transformer import WindowTransformer
from .unet import TemporalUNet, WindowValue

__all__ = [
    "MLP",
    "UMLP",
    "DenoisingMLP",
    "Fourier",
    "LayerNorm",
    "LayerNormResNet",
    "Linear",
    "ResidualMLP",
    "Sinusoidal",
    "TemporalUNet",
    "TimeMLP",
    "WindowTransformer",
    "WindowValue",
    "apply_ensemble",
    "dropout",
    "ensemble",
    "mish",
    "parameter_count",
    "sinusoidal",
    "torch_default",
    "xavier",
    "zeros",
]
