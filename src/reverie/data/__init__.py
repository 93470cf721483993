"""Offline data: checked arrays, where they come from, how they are normalised and how batches are drawn."""

from reverie.data.chunks import ChunkReplay, ChunkTransitions, chunk_transitions
from reverie.data.dataset import Dataset, concatenate
from reverie.data.fields import Field
from reverie.data.futures import Futures, futures, geometric_offsets, longest_offset
from reverie.data.normalisers import CDF, Gaussian, Identity, MinMax, Normaliser
from reverie.data.shard_writer import ShardWriter
from reverie.data.spec import Spec
from reverie.data.streaming import Streamed
from reverie.data.tasks import balanced, join_tasks, tasks_of
from reverie.data.views import Transitions, costs_to_go, pairs, rewards_to_go, sarsa, transitions
from reverie.data.windows import Windows, windows

__all__ = [
    "CDF",
    "ChunkReplay",
    "ChunkTransitions",
    "Dataset",
    "Field",
    "Futures",
    "Gaussian",
    "Identity",
    "MinMax",
    "Normaliser",
    "ShardWriter",
    "Spec",
    "Streamed",
    "Transitions",
    "Windows",
    "balanced",
    "chunk_transitions",
    "concatenate",
    "costs_to_go",
    "futures",
    "geometric_offsets",
    "join_tasks",
    "longest_offset",
    "pairs",
    "rewards_to_go",
    "sarsa",
    "tasks_of",
    "transitions",
    "windows",
]
