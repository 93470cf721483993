"""Data that is collected here: trained agents in locomotion, a controller in the point mazes, Meta-World's policies."""

from reverie.collection.datasets import DATASETS, make_dataset

__all__ = ["DATASETS", "make_dataset"]
