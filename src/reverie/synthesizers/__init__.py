"""Synthesizers: methods that make data, which any other method trains on."""

from reverie.synthesizers.diffstitch import DiffStitch
from reverie.synthesizers.inpainting import Inpainting
from reverie.synthesizers.mbpo import MBPO
from reverie.synthesizers.morel import MOReL
from reverie.synthesizers.mtdiff import MTDiffSynthesizer
from reverie.synthesizers.s4rl import S4RL
from reverie.synthesizers.synther import SynthER
from reverie.synthesizers.tatu import TATU

__all__ = ["MBPO", "S4RL", "TATU", "DiffStitch", "Inpainting", "MOReL", "MTDiffSynthesizer", "SynthER"]
