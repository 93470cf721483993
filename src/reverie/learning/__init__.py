"""What training is made of, whatever is trained: optimisers with their states, exponential moving averages, snapshots,
stages, and what is computed only where it is due."""

from reverie.learning.due import where_due
from reverie.learning.optimisers import Optimised, delayed_ema, ema, optimiser
from reverie.learning.rows import map_rows
from reverie.learning.snapshots import Snapshots
from reverie.learning.stages import Stage, stages_of

__all__ = ["Optimised", "Snapshots", "Stage", "delayed_ema", "ema", "map_rows", "optimiser", "stages_of", "where_due"]
