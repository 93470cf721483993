"""MkDocs' hook: adds the pages made from the code, and their places in the navigation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from docs.hooks import algorithms, interface, notebooks, references  # noqa: E402

REFERENCES = references.read(ROOT / "docs" / "references.bib")
NOTEBOOKS = notebooks.notebooks()


def on_config(config: Any) -> Any:
    """Fill the empty sections of `nav` in mkdocs.yml."""
    roles = [
        {algorithms.heading(role): [{cls.name: algorithms.page_of(cls)} for cls in classes]}
        for role, classes in algorithms.algorithms().items()
    ]
    packages = [{name: interface.page_of(name)} for name in interface.modules()]
    read = [{notebooks.title(each): f"notebooks/{name}.md"} for name, each in NOTEBOOKS.items()]
    made = {"Notebooks": read, "Algorithms": [{"Overview": "algorithms/index.md"}, *roles], "API": packages}
    config.nav = [made_section(section, made) for section in config.nav]
    return config


def made_section(section: Any, made: dict[str, list]) -> Any:
    """A section of the navigation, with the pages made where it is one of ours."""
    name = next(iter(section)) if isinstance(section, dict) else None
    return {name: made[name]} if name in made else section


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    pages = {"algorithms/index.md": algorithms.overview(REFERENCES), "references.md": references.page(REFERENCES)}
    pages |= {
        algorithms.page_of(cls): algorithms.page(cls, REFERENCES)
        for classes in algorithms.algorithms().values()
        for cls in classes
    }
    pages |= {interface.page_of(name): interface.page(name, names) for name, names in interface.modules().items()}
    pages |= {f"notebooks/{name}.md": notebooks.page(each, name) for name, each in NOTEBOOKS.items()}
    pictures = {path: kept for name, each in NOTEBOOKS.items() for path, kept in notebooks.files(each, name).items()}
    for path, content in {**pages, **pictures}.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The gallery shows the notebooks' pictures."""
    return markdown.replace(notebooks.MARK, notebooks.gallery(NOTEBOOKS))
