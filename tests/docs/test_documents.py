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


def test_a_table_is_made_of_the_records(tmp_path):
    rows = json.loads((documents.RESULTS / "offline.json").read_text())["cells"]["bc"]

    def filled(text, **changed):
        cells = {name: rows[name] | changed.get(name, {}) for name in ("hopper-medium", "hopper-mixture")}
        (tmp_path / "offline.json").write_text(json.dumps({"table": "offline", "cells": {"bc": cells}}))
        return documents.filled(text, tmp_path).splitlines()

    worst = {"hopper-medium": {"scores": [[0.0] * 20] * 4}}
    lines = filled(EMPTY, **worst)
    assert lines[:2] == ["before", ""] and lines[-3:] == ["<!-- end -->", "", "after"]
    assert lines[3] == "| | hopper-medium | hopper-mixture | minutes |"
    assert lines[5].startswith("| `bc` | **0.0** | **48.0** | ")
    assert "**0.0**, 0.0 to 0.0 (52.9)" in filled(EMPTY.replace("means", "scores"), **worst)[5]


def test_a_score_by_other_settings_than_the_plans_is_marked(tmp_path):
    row = json.loads((documents.RESULTS / "offline.json").read_text())["cells"]["bc"]["hopper-mixture"]
    for old, new, mark in ((" 64000", " 1000", " §"), ("--evaluate-every 8000", "--evaluate-every 100", "")):
        commands = [each.replace(old, new) for each in row["commands"]]
        assert commands != row["commands"]
        cells = {"bc": {"hopper-mixture": row | {"commands": commands}}}
        (tmp_path / "offline.json").write_text(json.dumps({"table": "offline", "cells": cells}))
        assert f"| **48.0**{mark} |" in documents.filled(EMPTY, tmp_path)


def test_only_the_best_of_a_column_is_bold():
    rows = [line for line in documents.filled(EMPTY).splitlines() if line.startswith("| ") and "minutes" not in line]
    columns = zip(*(row.strip("|").split("|")[1:-1] for row in rows), strict=True)
    assert all(sum("**" in cell for cell in column) >= 1 for column in columns)


def test_an_unknown_table_is_refused():
    with pytest.raises(ValueError, match="no table 'nowhere'"):
        documents.filled("<!-- scores nowhere -->\n<!-- end -->")
