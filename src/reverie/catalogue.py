"""Every algorithm by its name, and their configurations as JSON."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from reverie import baselines, planners, policies, synthesizers
from reverie.errors import RunError

ROLES = (planners, policies, synthesizers, baselines)

# name -> class. An algorithm of your own joins by an entry here, before its run is loaded.
ALGORITHMS: dict[str, Any] = {
    cls.name: cls for role in ROLES for cls in (getattr(role, export) for export in getattr(role, "__all__", ()))
}


def find(name: str) -> Any:
    """The algorithm of that name. Raises RunError that names the nearest ones."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    near = difflib.get_close_matches(name, ALGORITHMS) or sorted(ALGORITHMS)
    raise RunError(f"There is no algorithm {name!r}; did you mean one of: {', '.join(near) or '(none known)'}?")


def to_config(algorithm: Any) -> dict[str, Any]:
    """The name and the flat fields of an algorithm, as JSON holds them (tuples become lists)."""
    fields = {field.name: getattr(algorithm, field.name) for field in dataclasses.fields(algorithm)}
    return {"name": algorithm.name} | {
        key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()
    }


def from_config(config: dict[str, Any]) -> Any:
    """The algorithm that `to_config` wrote. Raises RunError for a name or a field that is not known here."""
    cls = find(config["name"])
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    del values["name"]
    unknown = values.keys() - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise RunError(
            f"{config['name']} has no field {sorted(unknown)[0]!r}: the run is of another version of reverie."
        )
    return cls(**values)
