"""Many trainings of one question: which settings to try, the trials on the disk, the processes, the results."""

from reverie.sweeps.results import best, rows
from reverie.sweeps.running import Sweep, sweep
from reverie.sweeps.space import Choices, Range, parse
from reverie.sweeps.trials import Trial

__all__ = ["Choices", "Range", "Sweep", "Trial", "best", "parse", "rows", "sweep"]
