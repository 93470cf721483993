"""Synthesizers: methods that make data, which any other method trains on."""

from reverie.synthesizers.synther import SynthER

__all__ = ["SynthER"]
