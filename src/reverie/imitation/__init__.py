"""Imitation: chunks of actions, from demonstrations."""

from reverie.imitation.act import ACT
from reverie.imitation.chunk_bc import ChunkBC
from reverie.imitation.diffusion_policy import DiffusionPolicy, FlowPolicy
from reverie.imitation.ibc import IBC
from reverie.imitation.lstm_gmm import LSTMGMM
from reverie.imitation.mdn import MDN
from reverie.imitation.playfusion import PlayFusion
from reverie.imitation.vpdd import VPDD

__all__ = ["ACT", "IBC", "LSTMGMM", "MDN", "VPDD", "ChunkBC", "DiffusionPolicy", "FlowPolicy", "PlayFusion"]
