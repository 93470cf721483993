"""Every algorithm by its name, one's own as `module:Class`, and their configurations as JSON."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from pathlib import Path
from typing import Any

from reverie import baselines, imitation, planners, policies, roles, synthesizers
from reverie.errors import RunError
from reverie.paths import imported
from reverie.version import __version__

ROLES = (planners, policies, synthesizers, imitation, roles, baselines)

ALGORITHMS: dict[str, Any] = {
    cls.name: cls for role in ROLES for cls in (getattr(role, export) for export in getattr(role, "__all__", ()))
}
"""name -> class."""


def find(name: str) -> Any:
    """The algorithm of that name, or the class that `module:Class` names; the working directory counts.

    Raises RunError that names the nearest ones, or says what is wrong with the module or the class.
    """
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" in name:
        return _imported(name)
    near = difflib.get_close_matches(name, ALGORITHMS) or sorted(ALGORITHMS)
    raise RunError(
        f"There is no algorithm {name!r}; did you mean one of: {', '.join(near)}? One of your own is named as "
        "package.module:Class."
    )


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        cls = imported("__main__" if module == _script() else module, attribute)
    except (ImportError, ValueError) as error:  # ValueError: no name before the colon
        raise RunError(
            f"{name!r} cannot be imported ({error}); start in the folder that holds {module or 'it'}, or put that on "
            "PYTHONPATH, and name the class as package.module:Class."
        ) from error
    except AttributeError:
        raise RunError(f"The module {module!r} has no {attribute!r}; name it as package.module:Class.") from None
    _check(cls, repr(name))
    return cls


def check(algorithm: Any) -> None:
    """Raise RunError for what is no algorithm, and say what it lacks."""
    if isinstance(algorithm, type):
        raise RunError(f"{algorithm.__name__} is a class; give an instance of it, {algorithm.__name__}().")
    _check(type(algorithm), type(algorithm).__name__)


def _check(cls: Any, name: str) -> None:
    wanted = ("name", "role", "paper", "needs", "prepare", "init")
    missing = [each for each in wanted if not hasattr(cls, each)]
    if not (hasattr(cls, "update") or hasattr(cls, "stages")):
        missing.append("update (or stages)")
    if hasattr(cls, "act") != hasattr(cls, "reset"):
        missing.append("reset" if hasattr(cls, "act") else "act")
    if not dataclasses.is_dataclass(cls) or missing:
        what = f"it lacks {', '.join(missing)}" if missing else "it is no dataclass"
        raise RunError(f"{name} is no algorithm: {what}; see 'Write your own method' in the documentation.")


def name_of(algorithm: Any) -> str:
    """The name by which `find` finds the algorithm's class."""
    cls = type(algorithm)
    if ALGORITHMS.get(cls.name) is cls:
        return cls.name
    module = cls.__module__ if cls.__module__ != "__main__" else _script() or "__main__"
    return f"{module}:{cls.__qualname__}"


def _script() -> str | None:
    """The name by which others import the program that is running; None where it is no file, as in a notebook."""
    main = sys.modules["__main__"]
    if spec := getattr(main, "__spec__", None):  # python -m package.module
        return spec.name
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else None


def to_config(algorithm: Any) -> dict[str, Any]:
    """The name and the flat fields of an algorithm, as JSON holds them (tuples become lists)."""
    fields = {field.name: getattr(algorithm, field.name) for field in dataclasses.fields(algorithm)}
    return {"name": name_of(algorithm)} | {
        key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()
    }


def from_config(config: dict[str, Any], version: str = __version__) -> Any:
    """The algorithm that `to_config` wrote, in that version of reverie. Raises RunError for a name or a field that is
    not known here."""
    cls = find(config["name"])
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    del values["name"]
    unknown = values.keys() - {field.name for field in dataclasses.fields(cls)}
    if unknown:
        raise RunError(
            f"The run was written by reverie {version}, where {config['name']} had a field {min(unknown)!r} that "
            f"it lacks in {__version__}: use that version, or train again."
        )
    return cls(**values)
