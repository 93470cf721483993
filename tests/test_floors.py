"""The house: modules import from lower floors only, in no circle, and none is long."""

import ast
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
LONGEST = 350
HOUSE = "reverie"
"""Its __init__.py hands on names of the floors up to `loading`, when they are used: who imports it stands above."""


def floors(drawing: str) -> dict[str, int]:
    """The floor of every module and package, from the list that docs/draw_layers.py draws."""
    (listed,) = (node for node in ast.parse(drawing).body if isinstance(node, ast.AnnAssign))
    rows = ast.literal_eval(listed.value)
    return {name.rstrip("/"): level for level, (names, _) in enumerate(rows) for name in names}


FLOORS = floors((ROOT / "docs" / "draw_layers.py").read_text())


@lru_cache
def modules() -> dict[str, Path]:
    """The library's modules by their dotted names; a package is its __init__.py."""
    found = (path.relative_to(SOURCE) for path in sorted(SOURCE.rglob("*.py")))
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): SOURCE / path for path in found}


def imports(module: str, text: str, package: bool) -> set[str]:
    """The library's modules that the text imports, in functions too, but not under `if TYPE_CHECKING`."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".") if package else module.split(".")[:-1]
            base = ".".join(parts[: len(parts) + 1 - node.level]) if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                inside = f"{origin}.{alias.name}"
                found.add(inside if inside in modules() else origin)
    return {name for name in found if name in modules()} - {module}


def floor(module: str) -> int:
    return FLOORS["loading" if module == HOUSE else module.split(".")[1]]


def upward(module: str, imported: set[str]) -> list[str]:
    """The imports that do not go to a lower floor or stay in the package."""
    if module == HOUSE:
        return []
    package = module.split(".")[:2]
    others = [name for name in sorted(imported) if name.split(".")[:2] != package]
    return [f"{module} -> {name}" for name in others if floor(name) >= floor(module)]


@lru_cache
def graph() -> dict[str, set[str]]:
    return {name: imports(name, path.read_text(), path.name == "__init__.py") for name, path in modules().items()}


def test_every_module_has_a_floor():
    assert {name.split(".")[1] for name in modules() if name != HOUSE} <= FLOORS.keys()


def test_imports_go_down():
    assert [arrow for module, imported in graph().items() for arrow in upward(module, imported)] == []


def test_no_circles():
    # A package's __init__.py collects its modules; they may import one another, but not what it has collected.
    arrows = {name: imported for name, imported in graph().items() if name != HOUSE}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_no_file_is_long():
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


BROKEN = """
from typing import TYPE_CHECKING
import numpy as np
from reverie.errors import ReverieError
from . import views
from reverie import __version__
if TYPE_CHECKING:
    from reverie.training import Run
def late():
    from ..training.run import load
    from reverie import cli
"""


def test_an_arrow_that_goes_up_is_named():
    found = imports("reverie.data.spec", BROKEN, False)
    assert found == {"reverie", "reverie.errors", "reverie.data.views", "reverie.training.run", "reverie.cli"}
    expected = [f"reverie.data.spec -> {name}" for name in ("reverie", "reverie.cli", "reverie.training.run")]
    assert upward("reverie.data.spec", found) == expected
    assert upward("reverie.networks.mlp", {"reverie.networks.layers", "reverie.data.views"}) == [
        "reverie.networks.mlp -> reverie.data.views"
    ]
