"""Backbones: Equinox modules whose leaves are arrays only, on inputs of any leading batch shape.

The transformer over chunks and the encoders of observations are used by no method of the catalogue
yet: they wait for Diffusion Policy and imitation from images, and for your own.
"""

from .attention import CrossAttention, SelfAttention
from .codebook import Codebook, CodebookLosses
from .conditioning import AdaptiveNorm, Condition, FiLM, flatten_condition, modulate
from .embeddings import Fourier, Sinusoidal, TimeMLP, sinusoidal
from .encoders import Encoding, ImageEncoder, ObservationEncoder, TokenEncoder
from .image_unet import ImageUNet
from .layers import LayerNorm, Linear, dropout, mish, parameter_count, torch_default, xavier, zeros
from .mlp import MLP, UMLP, DenoisingMLP, LayerNormResNet, NoisyValue, ResidualMLP, apply_ensemble, ensemble
from .prompted import PromptTransformer
from .recurrent import GRU, LSTM
from .tokens import TokenTransformer
from .transformer import (
    ChunkTransformer,
    StepEmbedding,
    StepTransformer,
    Transformer,
    WindowCritic,
    WindowTransformer,
)
from .unet import TemporalUNet, WindowValue

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "UMLP",
    "AdaptiveNorm",
    "ChunkTransformer",
    "Codebook",
    "CodebookLosses",
    "Condition",
    "CrossAttention",
    "DenoisingMLP",
    "Encoding",
    "FiLM",
    "Fourier",
    "ImageEncoder",
    "ImageUNet",
    "LayerNorm",
    "LayerNormResNet",
    "Linear",
    "NoisyValue",
    "ObservationEncoder",
    "PromptTransformer",
    "ResidualMLP",
    "SelfAttention",
    "Sinusoidal",
    "StepEmbedding",
    "StepTransformer",
    "TemporalUNet",
    "TimeMLP",
    "TokenEncoder",
    "TokenTransformer",
    "Transformer",
    "WindowCritic",
    "WindowTransformer",
    "WindowValue",
    "apply_ensemble",
    "dropout",
    "ensemble",
    "flatten_condition",
    "mish",
    "modulate",
    "parameter_count",
    "sinusoidal",
    "torch_default",
    "xavier",
    "zeros",
]
