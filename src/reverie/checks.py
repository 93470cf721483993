"""Checks of a configuration's fields, when it is made."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from reverie.errors import ReverieError

Limit = float | tuple[float, float]
"""The smallest value, or the smallest and the largest."""


def check_fields(config: Any, limits: Mapping[str, Limit]) -> None:
    """Raise ReverieError for the first field of a dataclass that is outside its limits, or no choice of its Literal.

    A field whose type is int must be a whole number.
    """
    types = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), types[field.name]
        if get_origin(kind) is Literal and value not in get_args(kind):
            choices = ", ".join(map(str, get_args(kind)))
            raise ReverieError(f"{field.name} {value!r} is unknown; choose one of {choices}")
        if field.name in limits:
            _check_number(field.name, value, kind is int, limits[field.name])


def _check_number(name: str, value: Any, whole: bool, limit: Limit) -> None:
    low, high = limit if isinstance(limit, tuple) else (limit, math.inf)
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if number and low <= value <= high:
        return
    kind = "a whole number" if whole else "a number"
    wanted = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
    raise ReverieError(f"{name} = {value!r}, but it must be {kind} {wanted}")
