"""What reading and writing share: how a place is named, the keys of D4RL's layout, and where Minari keeps its sets."""

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reverie.errors import DataError

PER_STEP = ("observations", "actions", "timeouts", "terminals", "rewards", "costs", "next_observations", "ends")
BOUNDS = ("action_low", "action_high")
EXAMPLES = {
    "d4rl": "PATH.hdf5",
    "minari": "NAMESPACE/NAME-v0",
    "ogbench": "PATH.npz",
    "robomimic": "PATH.hdf5",
    "lerobot": "FOLDER",
    "parquet": "FOLDER",
}
OPTIONS = {
    "robomimic": {"keys": "NAME,NAME", "vector": "NAME,NAME", "filter": "NAME", "actions": "NAME"},
    "lerobot": {"keys": "NAME,NAME", "vector": "NAME,NAME", "actions": "NAME", "image_size": "96", "episodes": "0:50"},
}
"""What a scheme's reader is told after the place, as `@NAME=VALUE`, with an example."""
SUFFIX = re.compile(r"(.+)@(\w+)=([^@=/]*)")
"""A source, and the name and the value of what is asked of it last."""


def choose(table: Mapping[str, Any], given: str, scheme: str, rest: str) -> Any:
    """The table's entry for `scheme`. Raises DataError, with examples, where it has none or `rest` is empty."""
    if scheme not in table or not rest:
        known = ", ".join(f"'{name}:{what}'" for name, what in EXAMPLES.items() if name in table)
        raise DataError(f"{given!r} names no known kind of data; write one of {known}.")
    return table[scheme]


def told(scheme: str, rest: str) -> tuple[str, dict[str, str]]:
    """The place, and what its reader is told, by name. Raises DataError where another thing stands before that."""
    options: dict[str, str] = {}
    while found := SUFFIX.fullmatch(rest):
        rest, name, value = found.groups()
        if name not in OPTIONS[scheme]:
            after = "".join(f"@{key}={each}" for key, each in options.items())
            raise DataError(f"'@{name}={value}' is asked of what is read; write it after {after!r}.")
        options = {name: value, **options}
    return rest, options


def named_keys(options: Mapping[str, str]) -> tuple[list[str] | None, bool]:
    """The keys of `@keys=NAME,NAME` or `@vector=NAME,NAME`, and whether they are to be one vector."""
    if "keys" in options and "vector" in options:
        raise DataError(f"'@keys={options['keys']}' and '@vector={options['vector']}' exclude each other; write one.")
    names = options.get("vector", options.get("keys"))
    return (None if names is None else names.split(",")), "vector" in options


def source_of(scheme: str, place: str, options: Mapping[str, Any]) -> str:
    """What reads the same again: the options that are not None, sequences of names with commas."""
    given = {key: value for key, value in options.items() if value is not None}
    texts = {key: value if isinstance(value, str) else ",".join(map(str, value)) for key, value in given.items()}
    return f"{scheme}:{place}" + "".join(f"@{key}={text}" for key, text in texts.items())


def brief(error: Exception) -> str:
    """Kind and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_file(path: str) -> None:
    if not Path(path).expanduser().is_file():
        raise DataError(f"There is no file {path!r}; check the path.")


def check_memory(place: str, needed: int, advice: str) -> None:
    """Raises DataError where images of so many bytes would take more memory than the machine has."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on every system
        return
    if needed > there:
        raise DataError(
            f"The images in {place!r} would take {needed / 1e9:.3g} GB of memory, of {there / 1e9:.3g}; {advice}."
        )


@contextmanager
def opened_hdf5(path: str) -> Iterator[Any]:
    import h5py

    check_file(path)
    try:
        with h5py.File(Path(path).expanduser(), "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path!r} is not a whole HDF5 file ({error}); download or write it again.") from error


def imported(module: str, extra: str) -> Any:
    """Raises DataError, with the command that installs it, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise DataError(f"{name!r} is not installed; install it with: pip install 'reverie[{extra}]'") from error


def imported_minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise DataError("Minari is not installed; install it with: pip install 'reverie[minari]'") from error
    return minari


def minari_path(identity: str) -> Path:
    """The folder of a Minari data set's files, which need not exist."""
    from minari.storage.datasets_root_dir import get_dataset_path

    return get_dataset_path(identity) / "data"


def check_minari_name(identity: str) -> None:
    from minari.dataset.minari_dataset import DATASET_ID_RE

    match = DATASET_ID_RE.fullmatch(identity)
    if match is None or match["version"] is None:
        raise DataError(f"{identity!r} is no Minari name; write it as NAMESPACE/NAME-vNUMBER, such as 'mine/maze-v0'.")


def is_goal_environment(names: Any) -> bool:
    """Whether a dictionary of observations is a state beside the goal to reach, and not a dictionary to train on."""
    return {"observation", "desired_goal"} <= set(names) <= {"observation", "desired_goal", "achieved_goal"}
