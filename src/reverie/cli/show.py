"""What the verbs share: tables on the terminal, values in words, FIELD=VALUE."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reverie.errors import ReverieError
from reverie.settings import literal


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table

    made = Table()
    for heading in head:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def show(what: Any) -> None:
    from rich.console import Console

    Console().print(what)


def in_words(value: Any) -> str:
    """Numbers to six digits, and what holds several of them without its brackets where names distinguish them."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {in_words(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(in_words, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def assignment(text: str) -> tuple[str, Any]:
    """FIELD=VALUE, of which the value is a `literal`. Raises ReverieError for anything else."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ReverieError(f"{text!r} is no FIELD=VALUE, such as candidates=8")
    return name, literal(value)


def draw(run: Any) -> Path:
    """The run's learning curves, as a picture in its folder."""
    from reverie.evaluation.plots import learning_curves, save

    if run.path is None:
        raise ReverieError(f"{run.name} is of one file, which has no metrics; give the folder that it was trained in.")

    return save(learning_curves(run.metrics()), run.path / "plots" / "learning.png")
