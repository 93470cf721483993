"""Data that is collected here: trained agents in locomotion, controllers in mazes and Push-T, Meta-World's policies."""

from reverie.collection.datasets import DATASETS, make_dataset

__all__ = ["DATASETS", "make_dataset"]
