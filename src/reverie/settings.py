"""Fields of a configuration: their limits, which of them matter in acting, and the checks when one is made.

A field's annotation says what it takes: `width: Count = 32` is a whole number of at least 1, `candidates:
Acting[Count]` one that a trained run may change when it acts, `way: Literal["one", "other"]` a choice.
"""

import ast
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from reverie.errors import ReverieError

T = TypeVar("T")


class Limit(NamedTuple):
    """The smallest and the largest value of a field."""

    low: float
    high: float = math.inf


class Choices(NamedTuple):
    """The values that a field may have, where they come from a table."""

    names: tuple[str, ...]


class _Acting:
    """Marks a field that matters only when a trained run acts, or generates."""


Count = Annotated[int, Limit(1)]
"""A whole number of at least 1."""
Natural = Annotated[int, Limit(0)]
"""A whole number of at least 0."""
Positive = Annotated[float, Limit(1e-12)]
NonNegative = Annotated[float, Limit(0.0)]
Fraction = Annotated[float, Limit(0.0, 1.0)]
"""From 0 to 1."""
LearningRate = Annotated[float, Limit(1e-12, 1.0)]
Acting = Annotated[T, _Acting]
"""`Acting[Count]`: a field that `run.acting` and `--acting` may change."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """A configuration that checks its fields when it is made. Raises ReverieError that quotes the first wrong value.

    A class that gives a field another default writes its type as well, `nfe: Acting[Count] = 10`: without it Python
    would keep the old default. Limits, choices and the mark of acting are inherited where the new type has none.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        bases = [base for base in cls.__mro__[1:] if dataclasses.is_dataclass(base)]
        inherited = {field.name for base in bases for field in dataclasses.fields(base)}
        for name in inherited & vars(cls).keys() - vars(cls).get("__annotations__", {}).keys():
            if not isinstance(vars(cls)[name], property):
                raise ReverieError(
                    f"{cls.__name__}.{name} = {vars(cls)[name]!r} would change nothing, as {name} is an inherited "
                    f"field; write its type as well, as in {name}: int = ..."
                )

    def __post_init__(self) -> None:
        for each in annotations(type(self)):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if not (each.optional and value is None):
                _check(each, value)


class Annotation(NamedTuple):
    """What a field's annotation says."""

    name: str
    kind: Any
    """Its type, without the rest."""
    limit: Limit | None
    choices: tuple[Any, ...]
    """Of its values; () for any."""
    acting: bool
    optional: bool
    """Whether None will do."""


@lru_cache(maxsize=256)
def annotations(cls: Any) -> tuple[Annotation, ...]:
    """Of every field of a dataclass."""
    return tuple(_annotations(cls))


def _annotations(cls: type) -> Iterator[Annotation]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        kind, extras = _taken_apart(hints[field.name])
        others = [each for each in get_args(kind) if each is not NoneType]
        optional = get_origin(kind) in (Union, UnionType) and len(others) == 1
        if optional:
            kind, more = _taken_apart(others[0])
            extras = extras + more
        limits = [extra for extra in extras if isinstance(extra, Limit)]
        named = [extra.names for extra in extras if isinstance(extra, Choices)]
        choices = get_args(kind) if get_origin(kind) is Literal else named[-1] if named else ()
        own = Annotation(field.name, kind, limits[-1] if limits else None, choices, _Acting in extras, optional)
        yield _completed(own, cls)


def _completed(own: Annotation, cls: type) -> Annotation:
    """With the limit, the choices and the mark of acting of the class that the field is inherited from."""
    for base in cls.__mro__[1:]:
        if own.name in getattr(base, "__dataclass_fields__", ()):
            before = next(each for each in annotations(base) if each.name == own.name)
            limit, choices = own.limit or before.limit, own.choices or before.choices
            return own._replace(limit=limit, choices=choices, acting=own.acting or before.acting)
    return own


def _taken_apart(hint: Any) -> tuple[Any, tuple]:
    """The type of an annotation, and what stands beside it."""
    if get_origin(hint) is not Annotated:
        return hint, ()
    kind, *extras = get_args(hint)
    return kind, tuple(extras)


def acting_fields(algorithm: Any) -> tuple[str, ...]:
    """The fields that a trained run may change when it acts or generates."""
    cls = algorithm if isinstance(algorithm, type) else type(algorithm)
    return tuple(each.name for each in annotations(cls) if each.acting)


def is_real(cls: Any, name: str) -> bool:
    """Whether the field of a configuration takes any number of its range, not whole ones alone."""
    return any(each.name == name and each.kind is float for each in annotations(cls))


def with_values(configuration: T, values: Mapping[str, Any]) -> T:
    """With other values of some fields, which are not checked: they may be traced by JAX."""
    return _made(type(configuration), configuration, values) if values else configuration


def without(configuration: T, names: Sequence[str], why: str) -> T:
    """The same without the values of some fields: reading one raises ReverieError, with its name before `why`."""

    def unread(name: str) -> property:
        def read(self: Any) -> Any:
            raise ReverieError(f"{name} {why}")

        return property(read)

    cls = type(configuration)
    return _made(type(cls.__name__, (cls,), {name: unread(name) for name in names}), configuration, {}, names)


def _made(cls: Any, like: Any, values: Mapping[str, Any], lacking: Sequence[str] = ()) -> Any:
    made = object.__new__(cls)
    for field in dataclasses.fields(like):
        if field.name not in lacking:
            object.__setattr__(made, field.name, values.get(field.name, getattr(like, field.name)))
    return made


def _check(field: Annotation, value: Any) -> None:
    if field.choices and value not in field.choices:
        choices = ", ".join(map(str, field.choices))
        raise ReverieError(f"{field.name} {value!r} is unknown; choose one of {choices}")
    if field.kind is bool and not isinstance(value, bool):
        raise ReverieError(f"{field.name} = {value!r}, but it must be True or False")
    if field.limit is not None or field.kind in (int, float):
        _check_number(field.name, value, field.kind is int, field.limit or Limit(-math.inf))
    if get_origin(field.kind) is tuple and not isinstance(value, tuple | list):
        raise ReverieError(f"{field.name} = {value!r}, but it must be several, such as ({value!r},)")


def _check_number(name: str, value: Any, whole: bool, limit: Limit) -> None:
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if number and limit.low <= value <= limit.high:
        return
    kind = "a whole number" if whole else "a number"
    at_least = "" if limit.low == -math.inf else f" of at least {limit.low:g}"
    wanted = at_least if limit.high == math.inf else f" from {limit.low:g} to {limit.high:g}"
    raise ReverieError(f"{name} = {value!r}, but it must be {kind}{wanted}")


__all__ = [
    "Acting",
    "Annotation",
    "Choices",
    "Count",
    "Fraction",
    "LearningRate",
    "Limit",
    "Natural",
    "NonNegative",
    "Positive",
    "Settings",
    "acting_fields",
    "annotations",
    "is_real",
    "literal",
    "with_values",
    "without",
]


def literal(text: str) -> Any:
    """A value as it is typed: as Python writes it, true, false and none in any case, and else the text itself."""
    try:
        return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        return text


def option(name: str, value: Any) -> list[str]:
    """A field with its value, as the words that are typed."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *map(str, value if isinstance(value, tuple | list) else [value])]
