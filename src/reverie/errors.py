"""The errors that a user can mend. Each message is one sentence or two: what, where, and what would do.

The command line prints them without a traceback and exits with status 2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from zipfile import BadZipFile


class ReverieError(ValueError):
    """Something that the user gave, or that the machine lacks, stops the work."""


class DataError(ReverieError):
    """A data set, or the source that names it, is unusable. Says which key and row."""


class RunError(ReverieError):
    """A run's folder is missing, incomplete, of another configuration, or in use by another process."""


class DivergenceError(ReverieError):
    """A loss became NaN or infinite. Says metric, step and seed; the last good checkpoint is kept."""


class LostProcessError(ReverieError):
    """One of the processes that trained together is gone. Says what is kept; this process cannot meet the others again,
    and should end."""

    def __init__(self, cause: str, kept: str = ""):
        self.cause = cause
        how = f" {kept} Go on from there with as many processes as there are, by --resume." if kept else ""
        super().__init__(f"A process that trained with this one is lost ({cause}).{how}")


class ReverieWarning(UserWarning):
    """Something that works, and is likely not what was meant."""


DAMAGE = (ValueError, TypeError, LookupError, AttributeError, EOFError, OSError, RuntimeError, BadZipFile)
"""What readers of files raise of those that are not whole."""


@contextmanager
def undamaged(what: str, kind: type[ReverieError]) -> Iterator[None]:
    """An error of that kind, about what is read, in place of whatever else reading a damaged file raises."""
    try:
        yield
    except ReverieError:
        raise
    except DAMAGE as error:
        said = str(error).strip().partition("\n")[0]
        cause = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise kind(f"{what} is damaged, or of another kind ({cause}); restore it from a copy.") from error
