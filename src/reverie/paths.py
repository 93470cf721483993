"""Where files are kept, how one is written whole or not at all, and where one's own modules are found."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from reverie.errors import DataError


def cache_folder() -> Path:
    """$REVERIE_CACHE, else ~/.cache/reverie."""
    return Path(os.environ.get("REVERIE_CACHE") or Path.home() / ".cache" / "reverie")


def imported(module: str, attribute: str) -> Any:
    """What a module has by that name; the working directory counts. Raises ImportError or AttributeError where it is
    not there, and ValueError for a module without a name."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return getattr(import_module(module), attribute)


@contextmanager
def replacing(path: str) -> Iterator[Path]:
    """A file to write that takes the name `path` at the end, if nothing is raised. DataError where it cannot be."""
    final = Path(path).expanduser()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.")
    except OSError as error:
        raise DataError(f"{path!r} cannot be written ({error.strerror}); choose another place.") from error
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        unfinished.replace(final)
    except OSError as error:
        raise DataError(f"{path!r} cannot be written ({error}); free some space or choose another place.") from error
    finally:
        unfinished.unlink(missing_ok=True)
