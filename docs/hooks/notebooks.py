"""The notebooks as pages, with the outputs that are kept in them, and their pictures for the gallery."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.hooks import executing

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
ORDER = ("planner", "own_data", "synthesizer")
MARK = "<!-- pictures of the notebooks -->"
"""Where the gallery has them."""
OTHERS = re.compile(r"\]\((\w+)\.ipynb")


def notebooks() -> dict[str, dict[str, Any]]:
    """By their names."""
    return {name: executing.read(FOLDER / f"{name}.ipynb") for name in ORDER}


def title(notebook: Mapping[str, Any]) -> str:
    return executing.source(notebook["cells"][0]).splitlines()[0].removeprefix("# ")


def page(notebook: Mapping[str, Any], name: str) -> str:
    """Markdown, of a page beside the notebook."""
    first, *rest = (_cell(cell, f"{name}/") for cell in notebook["cells"])
    return (
        "\n\n".join([first, f"This page is a notebook, [{name}.ipynb]({name}.ipynb), with its outputs.", *rest]) + "\n"
    )


def _cell(cell: Mapping[str, Any], folder: str) -> str:
    text = executing.source(cell)
    if cell["cell_type"] == "markdown":
        return OTHERS.sub(r"](\1.md", text)
    shown = [_output(cell, output, folder) for output in cell["outputs"]]
    return "\n\n".join([f"```python\n{text}\n```", *shown])


def _output(cell: Mapping[str, Any], output: Mapping[str, Any], folder: str) -> str:
    data = output.get("data", {"text/plain": output.get("text")})
    if "image/png" in data:
        return f"![{cell['metadata']['caption']}]({folder}{cell['id']}.png)"
    if "text/html" in data:
        return "".join(data["text/html"])
    return f"```text\n{''.join(data['text/plain']).rstrip()}\n```"


def _pictures(notebook: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Cells that have a caption, with the output that is a picture."""
    for cell in executing.code_cells(notebook):
        for output in cell["outputs"]:
            if "caption" in cell["metadata"] and {"image/png", "text/html"} & set(output.get("data", ())):
                yield cell, output


def files(notebook: Mapping[str, Any], name: str) -> dict[str, bytes]:
    """The pictures by their paths in the documentation."""
    return {
        f"notebooks/{name}/{cell['id']}.png": base64.b64decode("".join(output["data"]["image/png"]))
        for cell, output in _pictures(notebook)
        if "image/png" in output["data"]
    }


def gallery(every: Mapping[str, Mapping[str, Any]]) -> str:
    """The pictures of all notebooks, with their captions and where they are from."""
    parts = []
    for name, notebook in every.items():
        source = f"From [{title(notebook)}](notebooks/{name}.md)."
        for cell, output in _pictures(notebook):
            shown = _output(cell, output, f"notebooks/{name}/")
            parts.append(f"{shown}\n\n{cell['metadata']['caption']} {source}")
    return "\n\n".join(parts)
