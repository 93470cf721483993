"""The page of references, made from `docs/references.bib`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ENTRY = re.compile(r"^@(?P<kind>\w+)\{(?P<key>[\w-]+),\n(?P<body>.*?)^\}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s*(?P<name>\w+)\s*=\s*\{(?P<value>.*)\},?$", re.MULTILINE)


@dataclass(frozen=True)
class Reference:
    """An entry of the file, with one field a line.

    Its `keywords` are the algorithms whose paper it is (none for what all share), its `section` where it is listed.
    """

    key: str
    fields: dict[str, str]
    text: str

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.fields.get("keywords", "").split(",") if word.strip())

    @property
    def title(self) -> str:
        return re.sub(r"[{}]", "", self.fields["title"])

    @property
    def authors(self) -> list[str]:
        """Names as BibTeX has them: "Family, Given"."""
        return re.sub(r"[{}]", "", self.fields["author"]).split(" and ")

    @property
    def short(self) -> str:
        """Authors and year: Janner et al. 2022."""
        names = [name.split(",")[0] for name in self.authors]
        who = names[0] if len(names) == 1 else " & ".join(names) if len(names) == 2 else f"{names[0]} et al."
        return f"{who} {self.fields['year']}"

    @property
    def link(self) -> str:
        """The short form, leading to the page of references from a page one folder down."""
        return f"[{self.short}](../references.md#{self.key.lower()})"

    @property
    def address(self) -> str | None:
        """The paper on arXiv, where it is there."""
        return f"https://arxiv.org/abs/{self.fields['eprint']}" if "eprint" in self.fields else None


def read(path: Path) -> dict[str, Reference]:
    """The entries by their keys, in the file's order. Raises ValueError for a line that no entry has."""
    text = path.read_text(encoding="utf-8")
    if left := ENTRY.sub("", text).strip():
        raise ValueError(f"{path}: this belongs to no entry: {left.splitlines()[0]!r}")
    found = {}
    for match in ENTRY.finditer(text):
        values = {each["name"]: each["value"] for each in FIELD.finditer(match["body"])}
        found[match["key"]] = Reference(match["key"], values, cited(match[0]))
    return found


def cited(entry: str) -> str:
    """An entry as others paste it: without our own two fields."""
    return re.sub(r"^\s*(keywords|section)\s*=.*\n", "", entry, flags=re.MULTILINE)


def page(references: dict[str, Reference]) -> str:
    """The papers by section, each with its link and its BibTeX."""
    lines = [
        "# References",
        "",
        "The papers whose methods are in the library. If you use one of them, cite its authors; the library itself is",
        "cited by `CITATION.cff` in the repository.",
    ]
    for section in dict.fromkeys(each.fields["section"] for each in references.values()):
        lines += ["", f"## {section}"]
        for each in references.values():
            if each.fields["section"] == section:
                lines += entry(each)
    return "\n".join(lines) + "\n"


def entry(reference: Reference) -> list[str]:
    venue = reference.fields.get("booktitle") or reference.fields.get("journal")
    where = [f"*{venue}*"] if venue else []
    if reference.address:
        where.append(f"[arXiv:{reference.fields['eprint']}]({reference.address})")
    if reference.methods:
        where.append("here: " + ", ".join(f"[`{name}`](algorithms/{name}.md)" for name in reference.methods))
    authors = [" ".join(reversed(name.split(", "))) for name in reference.authors]
    block = ["    " + line for line in ["```bibtex", *reference.text.splitlines(), "```"]]
    return [
        *("", f"### {reference.title} {{ #{reference.key.lower()} }}"),
        *("", f"{', '.join(authors)} ({reference.fields['year']}). {', '.join(where)}."),
        *("", '??? quote "BibTeX"', "", *block),
    ]
