"""Runs notebooks in this process, from top to bottom: `python -m docs.hooks.executing FILE...` writes the outputs.

A kernel would bring over thirty packages for what is here: a cell's statements, what they print, and the value of a
last expression, as Jupyter shows it. Lines that begin with % are for Jupyter alone.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

PARAMETERS = "parameters"
"""The tag of the cell whose assignments may be overridden, as papermill has it."""
RESOLUTION = 100
"""Dots an inch of a figure."""
COLOURS = 128
"""Of a picture that is kept."""


def read(path: str | Path) -> dict[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write(notebook: Mapping[str, Any], path: str | Path) -> None:
    Path(path).write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def source(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


def code_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def parameters(notebook: Mapping[str, Any]) -> dict[str, Any]:
    """A cell: the one of the parameters. Raises ValueError where there is not one."""
    found = [cell for cell in code_cells(notebook) if PARAMETERS in cell["metadata"].get("tags", ())]
    if len(found) != 1:
        raise ValueError(f"The notebook has {len(found)} cells with the tag {PARAMETERS!r}; give it one.")
    return found[0]


def fingerprint(notebook: Mapping[str, Any]) -> str:
    """Of all code: what outputs belong to."""
    return hashlib.sha256("\n".join(map(source, code_cells(notebook))).encode()).hexdigest()[:16]


def executed(notebook: Mapping[str, Any], changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The notebook with its outputs, run in the current folder.

    `changed` overrides parameters, once their cell has run. Raises ValueError for one that the notebook has not, and
    whatever a cell raises, with a note that says which cell it was.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    notebook, count = json.loads(json.dumps(notebook)), 0
    asked = parameters(notebook)
    for count, cell in enumerate(code_cells(notebook), start=1):
        try:
            cell["outputs"] = _outputs(source(cell), names, count)
        except Exception as error:
            error.add_note(f"In the notebook's cell {cell['id']!r}.")
            raise
        cell["execution_count"] = count
        if cell is asked and changed:
            if unknown := set(changed) - set(names):
                raise ValueError(f"The notebook has no parameter {min(unknown)!r}.")
            names.update(changed)
    notebook["metadata"]["executed"] = {"code": fingerprint(notebook), "cells": count}
    return notebook


def _outputs(code: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    lines = ["" if line.startswith("%") else line for line in code.splitlines()]
    tree = ast.parse("\n".join(lines))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    shown = None
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, f"cell {count}", "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if shown is not None:
        data = {kind: value.splitlines(keepends=True) for kind, value in as_data(shown).items()}
        outputs.append({"output_type": "execute_result", "execution_count": count, "data": data, "metadata": {}})
    return outputs


def as_data(value: Any) -> dict[str, str]:
    """A value as Jupyter shows it: text by type."""
    from matplotlib.figure import Figure

    if isinstance(value, Figure):
        file = io.BytesIO()
        value.savefig(file, dpi=RESOLUTION, bbox_inches="tight")
        return {"image/png": _smaller(file), "text/plain": "<Figure>"}
    if hasattr(value, "_repr_mimebundle_"):
        return value._repr_mimebundle_(include=(), exclude=())
    if hasattr(value, "_repr_html_"):
        return {"text/html": value._repr_html_(), "text/plain": repr(value)}
    return {"text/plain": repr(value)}


def _smaller(file: io.BytesIO) -> str:
    from PIL import Image

    small = io.BytesIO()
    Image.open(file).convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return base64.b64encode(small.getvalue()).decode()


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        print(path, flush=True)
        notebook, place = read(path), path.resolve()
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            notebook = executed(notebook)
        write(notebook, place)


if __name__ == "__main__":
    main(sys.argv[1:])
