"""The pages of the documentation that are made from the code."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

import pytest
from docs.hooks import algorithms, interface, references

from reverie.catalogue import ALGORITHMS

BIBLIOGRAPHY = Path(__file__).parents[2] / "docs" / "references.bib"
OURS = {name: cls for name, cls in ALGORITHMS.items() if cls.__module__.startswith("reverie.")}


@dataclass(frozen=True)
class Parent:
    width: Annotated[int, "at least 1"] = 3
    """Of the parent."""
    kept: Literal["a", "b"] | None = None
    """Either
    of two."""


@dataclass(frozen=True)
class Child(Parent):
    width: int = 4
    """Of the child."""
    silent: bool = False


def test_the_nearest_docstring_explains_a_field():
    assert algorithms.help_of_fields(Child) == {"width": "Of the child.", "kept": "Either of two.", "silent": ""}
    assert algorithms.help_of_fields(Parent)["width"] == "Of the parent."


def test_types_are_written_without_what_annotated_adds():
    written = [algorithms.type_of(Parent, each) for each in fields(Parent)]
    assert written == ["int", "'a' | 'b' | None"]


def test_other_types_as_one_writes_them():
    kinds = {tuple[int, ...]: "tuple[int, ...]", dict[str, float]: "dict[str, float]", float | None: "float | None"}
    assert {kind: algorithms.written(kind) for kind in kinds} == kinds


def test_defaults_also_of_factories_and_of_none():
    @dataclass
    class Kind:
        a: int
        b: str = "<x>"
        c: list = field(default_factory=lambda: [1])

    assert [algorithms.default_of(each) for each in fields(Kind)] == [
        "required",
        "<code>'&lt;x&gt;'</code>",
        "<code>[1]</code>",
    ]


def test_a_bar_is_a_border_nowhere_in_a_cell():
    assert algorithms.row("|a|", "`|a|`") == r"| \|a\| | `|a|` |"
    assert "|" not in algorithms.code("a | b")


@pytest.mark.parametrize("name", OURS)
def test_every_field_of_every_algorithm_is_explained(name):
    told = algorithms.help_of_fields(OURS[name])
    assert list(told) == [each.name for each in fields(OURS[name])]
    assert not [field for field, text in told.items() if not text]


@pytest.mark.parametrize("name", OURS)
def test_every_algorithm_has_its_paper(name):
    known = references.read(BIBLIOGRAPHY)
    assert [each for each in known.values() if name in each.methods], f"docs/references.bib has no paper of {name!r}"


def test_the_papers_methods_are_there():
    assert {name for each in references.read(BIBLIOGRAPHY).values() for name in each.methods} == OURS.keys()


def test_what_belongs_to_no_entry_is_refused(tmp_path):
    (tmp_path / "a.bib").write_text("@article{key,\n  title = {A},\n}\nstray\n")
    with pytest.raises(ValueError, match="stray"):
        references.read(tmp_path / "a.bib")


def test_a_reference_is_short_and_what_is_pasted_has_no_fields_of_ours():
    found = references.read(BIBLIOGRAPHY)["fujimoto2021minimalist"]
    assert found.short == "Fujimoto & Gu 2021"
    assert "keywords" not in found.text and "section" not in found.text and "2106.06860" in found.text


def test_every_module_has_its_place():
    pages = interface.modules()
    assert "reverie.catalogue" in pages["reverie"]
    assert {"reverie.data", "reverie.data.dataset"} <= set(pages["reverie.data"])
    assert not [name for names in pages.values() for name in names if "._" in name]
