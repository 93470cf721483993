"""The tables of README and docs are those of the records."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "recipes"
sys.path.insert(0, str(FOLDER))
import documents  # noqa: E402

sys.path.remove(str(FOLDER))

EMPTY = "before\n\n<!-- means offline -->\n<!-- end -->\n\nafter"


@pytest.mark.parametrize("path", documents.documents(), ids=lambda path: path.name)
def test_a_document_says_what_was_measured(path):
    text = path.read_text()
    assert documents.filled(text) == text, "run python recipes/documents.py"


def test_a_table_is_made_of_the_records_alone(tmp_path):
    records = json.loads((documents.RESULTS / "offline.json").read_text())
    cell = records["cells"]["bc"]["hopper-mixture"]
    worse = cell | {"scores": [[0.0] * 20] * 4}
    (tmp_path / "offline.json").write_text(
        json.dumps({"table": "offline", "cells": {"bc": {"hopper-mixture": cell, "hopper-medium": worse}}})
    )
    lines = documents.filled(EMPTY, tmp_path).splitlines()
    assert lines[:2] == ["before", ""] and lines[-3:] == ["<!-- end -->", "", "after"]
    assert lines[3] == "| | hopper-medium | hopper-mixture | minutes |"
    assert lines[5].startswith("| `bc` | **0.0** | **48.0** | ")
    scores = documents.filled(EMPTY.replace("means", "scores"), tmp_path).splitlines()
    assert "**0.0**, 0.0 to 0.0 (52.9)" in scores[5]


def test_only_the_best_of_a_column_is_bold():
    rows = [line for line in documents.filled(EMPTY).splitlines() if line.startswith("| ") and "minutes" not in line]
    columns = zip(*(row.strip("|").split("|")[1:-1] for row in rows), strict=True)
    assert all(sum("**" in cell for cell in column) >= 1 for column in columns)


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no table 'nowhere'"):
        documents.filled("<!-- scores nowhere -->\n<!-- end -->")
