"""The errors that a user can mend. Each message is one sentence or two: what, where, and what would do.

The command line prints them without a traceback and exits with status 2.
"""


class ReverieError(ValueError):
    """Something that the user gave, or that the machine lacks, stops the work."""


class DataError(ReverieError):
    """A data set, or the source that names it, is unusable. Says which key and row."""


class RunError(ReverieError):
    """A run's folder is missing, incomplete, of another configuration, or in use by another process."""


class DivergenceError(ReverieError):
    """A loss became NaN or infinite. Says metric, step and seed; the last good checkpoint is kept."""


class ReverieWarning(UserWarning):
    """Something that works, and is likely not what was meant."""
