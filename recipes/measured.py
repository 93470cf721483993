"""What recipes have measured: rows of a JSON file, each measured once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def once(path: Path, wanted: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> None:
    """Add `wanted` and what `measure` finds to the file's rows, unless one of them has all of `wanted`."""
    rows = read(path)
    if any(wanted.items() <= row.items() for row in rows):
        return
    found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*rows, wanted | found], indent=1) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows; none where there is no file."""
    return json.loads(path.read_text()) if path.exists() else []
