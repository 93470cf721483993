"""What reading and writing share: how a place is named, the keys of D4RL's layout, and where Minari keeps its sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.errors import DataError

PER_STEP = ("observations", "actions", "timeouts", "terminals", "rewards", "costs", "next_observations", "ends")
BOUNDS = ("action_low", "action_high")
EXAMPLES = {"d4rl": "PATH.hdf5", "minari": "NAMESPACE/NAME-v0", "ogbench": "PATH.npz"}


def choose(table: Mapping[str, Any], given: str, scheme: str, rest: str) -> Any:
    """The table's entry for `scheme`. Raises DataError, with examples, where it has none or `rest` is empty."""
    if scheme not in table or not rest:
        known = ", ".join(f"'{name}:{what}'" for name, what in EXAMPLES.items() if name in table)
        raise DataError(f"{given!r} names no known kind of data; write one of {known}.")
    return table[scheme]


def brief(error: Exception) -> str:
    """Kind and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_file(path: str) -> None:
    if not Path(path).expanduser().is_file():
        raise DataError(f"There is no file {path!r}; check the path.")


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
