"""Pages of the programming interface, a page a package, for mkdocstrings to fill from the docstrings."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from inspect import getdoc, ismodule

import reverie

from .algorithms import one_line, row

TITLE = "API"


def modules() -> dict[str, list[str]]:
    """Package -> its modules, itself first, wherever it lies below `reverie`; `reverie` has those of no package."""
    found: dict[str, list[str]] = {"reverie": []}
    for each in pkgutil.walk_packages(reverie.__path__, "reverie."):
        if not each.name.rpartition(".")[2].startswith("_"):
            found.setdefault(each.name if each.ispkg else each.name.rpartition(".")[0], []).append(each.name)
    return dict(sorted(found.items()))


def page_of(package: str) -> str:
    """Where a package's page is, below docs."""
    return "api/index.md" if package == "reverie" else f"api/{package.removeprefix('reverie.')}.md"


def page(package: str, names: list[str]) -> str:
    """A package's page: its own docstring, then its modules."""
    lines = overview() if package == "reverie" else [f"# {package}", "", getdoc(import_module(package)) or ""]
    for name in names:
        if name != package:
            lines += ["", f"## {name.removeprefix(package + '.')}", "", f"::: {name}"]
    return "\n".join(lines) + "\n"


def overview() -> list[str]:
    """What `import reverie` has at hand, each leading to where it is explained, and the packages."""
    exports = {name: getattr(reverie, name) for name in reverie.__all__}
    things = {name: thing for name, thing in exports.items() if not ismodule(thing) and not isinstance(thing, str)}
    run = f"{reverie.training.Run.__module__}.Run"
    packages = [name for name in modules() if name != "reverie"]
    return [
        *("# reverie", "", "What `import reverie` has at hand; nothing heavy is imported before it is used.", ""),
        *("| name | |", "|---|---|"),
        *(row(f"[`{name}`][{thing.__module__}.{thing.__qualname__}]", first(thing)) for name, thing in things.items()),
        *(
            "",
            f"`fit` and `load` return a [`Run`][{run}]: it acts by `policy` and makes data by `generate`.",
            "",
        ),
        *("| package | |", "|---|---|"),
        *(row(f"[`{name}`]({page_of(name).removeprefix('api/')})", first(import_module(name))) for name in packages),
    ]


def first(thing: object) -> str:
    """The first paragraph of a docstring."""
    return one_line((getdoc(thing) or "").split("\n\n")[0])
