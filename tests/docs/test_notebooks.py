"""The notebooks run from top to bottom, and what is kept in them is what they gave."""

import ast
import base64
import io
import re

import pytest
from docs.hooks import executing, notebooks
from PIL import Image

NOTEBOOKS = notebooks.notebooks()
SMOKE = {
    "planner": {"data_steps": 3000, "updates": 3, "width": 8, "multipliers": (1,), "episodes": 2, "max_steps": 8},
    "own_data": {"logged": 6, "updates": 2, "width": 8, "seeds": 1, "episodes": 2},
    "synthesizer": {
        "logged": 20,
        "synther_updates": 2,
        "synther_width": 8,
        "made_rows": 200,
        "judged_rows": 100,
        "updates": 2,
        "width": 8,
        "seeds": 2,
        "episodes": 2,
    },
}
PATHS = re.compile(r"(?<![\w.<:/])/(home|root|tmp|work|usr|opt|mnt|var|private|Users)/|[A-Z]:\\\\")
"""Of a machine."""
LARGEST = 300_000
"""Bytes of a notebook."""


def texts(notebook):
    for cell in executing.code_cells(notebook):
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text")})
            yield from ("".join(value) for kind, value in data.items() if not kind.startswith("image/"))


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = executing.executed(NOTEBOOKS[name], SMOKE[name])
    kept = executing.code_cells(NOTEBOOKS[name])
    for cell, before in zip(executing.code_cells(done), kept, strict=True):
        kinds = [[sorted(output.get("data", ())) for output in each["outputs"]] for each in (cell, before)]
        assert kinds[0] == kinds[1], cell["id"]
    assert not [text for text in texts(done) if PATHS.search(text) or str(tmp_path) in text]


def test_all_notebooks_are_pages():
    assert sorted(NOTEBOOKS) == sorted(path.stem for path in notebooks.FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_kept_belongs_to_the_code(name):
    notebook = NOTEBOOKS[name]
    cells = executing.code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert notebook["metadata"]["executed"] == {"code": executing.fingerprint(notebook), "cells": len(cells)}, (
        "the code is another than the one that ran: make notebooks"
    )
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"stream", "execute_result"}
    assert not [text for text in texts(notebook) if PATHS.search(text)]
    assert (notebooks.FOLDER / f"{name}.ipynb").stat().st_size < LARGEST
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_parameter_is_explained_and_can_be_overridden(name):
    lines = executing.source(executing.parameters(NOTEBOOKS[name])).splitlines()
    assert not [line for line in lines if "  # " not in line]
    assert {line.split(" = ")[0] for line in lines} == SMOKE[name].keys()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_picture_is_on_its_page_and_in_the_gallery(name):
    notebook, cells = NOTEBOOKS[name], executing.code_cells(NOTEBOOKS[name])
    drawn = [cell for cell in cells if any("image/png" in each.get("data", ()) for each in cell["outputs"])]
    files = notebooks.files(notebook, name)
    assert len(files) == len(drawn) >= 2
    shown, gallery = notebooks.page(notebook, name), notebooks.gallery(NOTEBOOKS)
    for path, content in files.items():
        assert f"({path.removeprefix('notebooks/')})" in shown and f"({path})" in gallery
        assert Image.open(io.BytesIO(content)).format == "PNG"
    for cell in drawn:
        assert cell["metadata"]["caption"].endswith(".")


def made(*sources, tag=0):
    cells = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": [text], "outputs": [], "execution_count": None}
        for i, text in enumerate(sources)
    ]
    cells[tag]["metadata"]["tags"] = ["parameters"]
    return {"cells": cells, "metadata": {}}


def test_a_cell_shows_what_it_prints_and_the_value_of_its_last_expression():
    done = executing.executed(made("n = 2  # x", "print(n)\nn + 1", "%matplotlib inline\nm = 1", "None"))
    outputs = [cell["outputs"] for cell in done["cells"]]
    assert outputs[0] == outputs[2] == outputs[3] == []
    assert outputs[1][0] == {"output_type": "stream", "name": "stdout", "text": ["2\n"]}
    assert outputs[1][1]["data"] == {"text/plain": ["3"]} and outputs[1][1]["execution_count"] == 2
    assert done["metadata"]["executed"] == {"code": executing.fingerprint(done), "cells": 4}


def test_parameters_are_overridden_after_their_cell():
    done = executing.executed(made("a = 1", "b = 2\nc = 3", "b + c", tag=1), {"b": 10})
    assert done["cells"][2]["outputs"][0]["data"]["text/plain"] == ["13"]
    with pytest.raises(ValueError, match="no parameter 'd'"):
        executing.executed(made("a = 1"), {"d": 1})
    with pytest.raises(ValueError, match="0 cells with the tag 'parameters'"):
        executing.executed({"cells": [], "metadata": {}})


def test_what_a_cell_raises_says_which_it_was():
    with pytest.raises(ZeroDivisionError) as raised:
        executing.executed(made("a = 1", "a / 0"))
    assert raised.value.__notes__ == ["In the notebook's cell 'c1'."]


def test_another_code_has_another_fingerprint():
    assert executing.fingerprint(made("a = 1")) == executing.fingerprint(made("a = 1"))
    assert executing.fingerprint(made("a = 1")) != executing.fingerprint(made("a = 2"))


def test_figures_are_small_pictures_and_films_are_shown_by_themselves():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    data = executing.as_data(figure)
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.format == "PNG" and picture.mode == "P" and data["text/plain"] == "<Figure>"

    class Shown:
        def _repr_html_(self):
            return "<b>x</b>"

        def __repr__(self):
            return "x"

    assert executing.as_data(Shown()) == {"text/html": "<b>x</b>", "text/plain": "x"}


def test_a_page_has_text_code_and_outputs():
    done = executing.executed(made("a = 1", "print(a)"))
    title = {
        "cell_type": "markdown",
        "id": "t",
        "metadata": {},
        "source": ["# A\n\n[b](b.ipynb), [c](../c.md)"],
    }
    done["cells"].insert(0, title)
    shown = notebooks.page(done, "a")
    assert notebooks.title(done) == "A"
    assert "[b](b.md), [c](../c.md)" in shown and "[a.ipynb](a.ipynb)" in shown
    assert shown.endswith("```python\na = 1\n```\n\n```python\nprint(a)\n```\n\n```text\n1\n```\n")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_code_is_python_but_for_magics(name):
    for cell in executing.code_cells(NOTEBOOKS[name]):
        lines = executing.source(cell).splitlines()
        ast.parse("\n".join(line for line in lines if not line.startswith("%")))
        assert not [line for line in lines if line.startswith(("!", "%")) and line != "%matplotlib inline"]
