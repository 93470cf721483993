"""OGBench's npz layout (Park et al. 2024): read here, written by `writers`.

A trajectory of T steps has T + 1 rows of `observations`, `actions` and `terminals`, the last of which is true in the
last row, whatever the task; `qpos`, `qvel` and `button_states` have as many. We add what the layout has no place for
and its own loader passes over: `rewards`, `costs`, `masks` (0 where the task ends, as its loader calls them) and
`attributes`, a text of JSON.
"""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.dataset import Dataset
from reverie.data.schemes import BOUNDS, brief, check_file
from reverie.errors import DataError

OURS = ("rewards", "costs", "masks")
"""Columns beyond the layout; every other one is an info."""


def read_ogbench(path: str) -> Dataset:
    """The data in a file of the layout.

    `terminals` mark a trajectory's last row, which has no successor. So these are cuts: the row before is a timeout,
    and nothing is a terminal, unless there are `masks`. There are no rewards in the published files.
    """
    arrays = _read_npz(path, ("observations", "actions", "terminals"))
    about = _attributes(arrays.pop("attributes", None), path)
    last = arrays.pop("terminals").astype(bool)
    observations, actions = arrays.pop("observations"), arrays.pop("actions")
    if not len(observations) == len(actions) == len(last):
        raise DataError(
            f"{path!r} has {len(observations)} observations, {len(actions)} actions and {len(last)} terminals; "
            f"the three must have one row a step, so download the file again."
        )
    last[-1:] = True
    rows = np.flatnonzero(~last)
    columns = {key: value[rows] for key, value in arrays.items() if value.ndim and len(value) == len(last)}
    ours: dict[str, Any] = {key: columns.pop(key) for key in OURS if key in columns}
    bounds: dict[str, Any] = {key: np.asarray(about.pop(key), np.float32) for key in BOUNDS if key in about}
    cuts = last[np.minimum(rows + 1, len(last) - 1)]
    ends: dict[str, Any] = {"terminals": np.zeros(len(rows), bool), "timeouts": cuts}
    if "masks" in ours:
        ends = {"terminals": ours.pop("masks") == 0, "ends": cuts}
    return Dataset.from_arrays(
        observations[rows],
        actions[rows],
        next_observations=observations[rows + 1],
        infos=columns,
        attributes={"name": Path(path).stem, **about, "source": f"ogbench:{path}"},
        **ends,
        **ours,
        **bounds,
    )


def _attributes(found: np.ndarray | None, path: str) -> dict[str, Any]:
    if found is None:
        return {}
    try:
        about = json.loads(str(found))
        if isinstance(about, dict):
            return about
    except json.JSONDecodeError:
        pass
    raise DataError(f"The 'attributes' in {path!r} are no JSON object; write the file again without them.")


def _read_npz(path: str, required: tuple[str, ...]) -> dict[str, np.ndarray]:
    check_file(path)
    if not zipfile.is_zipfile(Path(path).expanduser()):
        raise DataError(f"{path!r} is not a whole npz file; download it again.")
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as file:
            missing = [key for key in required if key not in file]
            if missing:
                raise DataError(
                    f"{path!r} lacks {', '.join(map(repr, missing))} (it has {', '.join(sorted(file))}); "
                    f"give a file that OGBench published."
                )
            return {key: file[key] for key in file}
    except DataError:  # a ValueError as well
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{path!r} holds pickled Python objects, which could run any program and are refused; "
                f"save it again as plain arrays with numpy.savez."
            ) from error
        raise DataError(f"{path!r} is not a whole npz file ({brief(error)}); download it again.") from error
