"""Pages about the algorithms, made from their classes: what each is, needs and reads, and its fields as a table."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
import typing
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from html import escape
from itertools import pairwise

from reverie.catalogue import ALGORITHMS

from .references import Reference

ROLES = {
    "planner": "Planners",
    "policy": "Policies",
    "synthesizer": "Synthesizers",
    "baseline": "Baselines",
    "dynamics": "Dynamics",
}


def algorithms() -> dict[str, list[type]]:
    """Reverie's own algorithms by their role, and by name in it; a role that is new here comes last."""
    ours = [cls for cls in ALGORITHMS.values() if cls.__module__.startswith("reverie.")]
    ours.sort(key=lambda cls: cls.name)
    roles = dict.fromkeys([*ROLES, *(cls.role for cls in ours)])
    return {role: found for role in roles if (found := [cls for cls in ours if cls.role == role])}


def heading(role: str) -> str:
    return ROLES.get(role, f"{role.capitalize()}s")


def page_of(cls: type) -> str:
    """Where an algorithm's page is, below docs."""
    return f"algorithms/{cls.name}.md"


def overview(references: dict[str, Reference]) -> str:
    """The page of all algorithms, a table a role."""
    lines = [
        "# Algorithms",
        "",
        "Every algorithm of the catalogue, as `reverie list` has it. Each name leads to its fields, which are the",
        "options of `reverie train NAME` and the arguments of the class. The defaults are the paper's or its released",
        "code's, but for what [Offline policies and baselines](../offline.md) says.",
    ]
    for role, classes in algorithms().items():
        lines += ["", f"## {heading(role)}", "", "| algorithm | what it is | paper | needs |", "|---|---|---|---|"]
        for cls in classes:
            papers = papers_of(cls, references)
            lines.append(row(f"[`{cls.name}`]({cls.name}.md)", summary(cls), papers, needs(cls)))
    return "\n".join(lines) + "\n"


def page(cls: type, references: dict[str, Reference]) -> str:
    """An algorithm's page."""
    known = help_of_fields(cls)
    told = inspect.getdoc(inspect.getmodule(cls)) or ""
    lines = [
        *(f"# {summary(cls).split(':')[0].rstrip('.')}: `{cls.name}`", "", inspect.getdoc(cls) or "", ""),
        f"- Role: {cls.role}",
        f"- Needs: {needs(cls)}",
        f"- Paper: {papers_of(cls, references)}",
        f"- Class: [`reverie.{cls.__module__.split('.')[1]}.{cls.__name__}`][{cls.__module__}.{cls.__name__}]",
        *("", "```", command(cls), "```"),
        *("", "## In its file", "", told),
        *("", "## Fields", "", "| field | type | default | |", "|---|---|---|---|"),
        *(row(code(each.name), code(type_of(cls, each)), default_of(each), known[each.name]) for each in fields(cls)),
    ]
    return "\n".join(lines) + "\n"


def summary(cls: type) -> str:
    """The first paragraph of the class's docstring, on one line."""
    return one_line((inspect.getdoc(cls) or "").split("\n\n")[0])


def command(cls: type) -> str:
    """What trains it."""
    if not hasattr(cls, "recorded"):
        return f"reverie train {cls.name} --data d4rl:FILE.hdf5 --steps N --out runs/{cls.name}"
    initial = " --initial runs/FIRST" if hasattr(cls, "begins_from") else ""
    return f"reverie online {cls.name} --env NAME{initial} --steps N --out runs/{cls.name}"


def needs(cls: type) -> str:
    return ", ".join(cls.needs) or "actions alone"


def papers_of(cls: type, references: dict[str, Reference]) -> str:
    """Links to the papers whose entry names the algorithm; without one the class's own word."""
    found = [each.link for each in references.values() if cls.name in each.methods]
    return "; ".join(found) or cls.paper


def default_of(field: Field) -> str:
    if field.default is not MISSING:
        return code(repr(field.default))
    return "required" if field.default_factory is MISSING else code(repr(field.default_factory()))


def type_of(cls: type, field: Field) -> str:
    """The field's type as one writes it, without what `Annotated` adds."""
    return written(typing.get_type_hints(cls)[field.name])


def written(hint: object) -> str:
    """A type as one writes it: `Literal["a", "b"]` by its choices, unions by bars, classes by their bare names."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None) or hint is Ellipsis:
        return "None" if hint is type(None) else "..."
    if origin is typing.Literal:
        return " | ".join(repr(choice) for choice in arguments)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(written(each) for each in arguments)
    if arguments and origin is not None:
        return f"{origin.__name__}[{', '.join(written(each) for each in arguments)}]"
    return getattr(hint, "__name__", str(hint))


@cache
def help_of_fields(cls: type) -> dict[str, str]:
    """The docstring under each field, of the class or of the nearest parent that has one. A field without is \"\"."""
    found = dict.fromkeys((each.name for each in fields(cls)), "")
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            found |= {name: text for name, text in docstrings_below(base).items() if name in found}
    return found


@cache
def docstrings_below(cls: type) -> dict[str, str]:
    """Annotated name -> the string literal that follows it, in the class's own body."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    found = {}
    for field, after in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else None
            if isinstance(text, str):
                found[field.target.id] = one_line(text)
    return found


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def code(text: str) -> str:
    """Code in a cell of a table, where backticks would not keep a bar from being a border."""
    return f"<code>{escape(text, quote=False).replace('|', '&#124;')}</code>"


def row(*cells: str) -> str:
    """A row of a Markdown table. A bar in a cell's prose is no border; one within backticks is none anyway."""
    return "| " + " | ".join(re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or "\\|", cell) for cell in cells) + " |"
