"""A trained run as one file: what one of its seeds reads when it acts or generates, and nothing of its training.

The file is in the format safetensors. Its header has one entry, JSON, with all that is not an array.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from reverie.catalogue import from_config, to_config
from reverie.data import Spec
from reverie.errors import RunError
from reverie.paths import replacing
from reverie.training.loop import state_shapes
from reverie.training.reads import names_of, reads
from reverie.version import __version__

if TYPE_CHECKING:
    from reverie.training.run import Run

HEADER = "reverie"
FORMAT = 1
"""Of the header; a file of a later one is refused."""
STATE, SPEC = "state/", "spec/"
"""What the names of arrays begin with. A state's go on with the leaf's number, by which it is read: names of fields may
change. The rest of the name is for people."""


def write(run: Run, path: str | Path, seed: int | None, half: bool, about: Mapping[str, Any]) -> None:
    """Write the run's seed (the first one if None) to the file, whole or not at all; floats of the state as float16
    where `half`.

    Raises RunError where the file exists, for a seed not trained, for `about` that JSON cannot hold, and where float16
    cannot hold a number.
    """
    check_new(path)
    text, arrays = contents(run, seed, half, about)
    from safetensors.numpy import save_file

    with replacing(str(path)) as unfinished:
        save_file(arrays, unfinished, {HEADER: text})


def check_new(path: str | Path) -> None:
    """Raise RunError where there is a file already."""
    if Path(path).expanduser().exists():
        raise RunError(f"{str(path)!r} exists already; give another name.")


def contents(run: Run, seed: int | None, half: bool, about: Mapping[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
    """The header, as JSON, and the arrays by their names. Raises RunError as `write`."""
    at, leaves, names = run.place(seed), jax.tree.leaves(run.states), names_of(run.algorithm, run.spec)
    arrays = {
        f"{STATE}{number}/{names[number]}": jax.device_get(leaves[number])[at]
        for number in sorted(reads(run.algorithm, run.spec))
    }
    if half:
        arrays = {name: _halved(name, array) for name, array in arrays.items()}
    plain, statistics = run.spec.parts()
    arrays |= {f"{SPEC}{name}": array for name, array in statistics.items()}
    header = {
        "format": FORMAT,
        "algorithm": to_config(run.algorithm),
        "changes": run.changes,
        "asked": run.asked,
        "spec": plain,
        "step": run.step,
        "seed": run.seeds[at],
        "leaves": len(leaves),
        "data": run.data,
        "versions": {"reverie": __version__, "jax": jax.__version__},
        "about": about,
    }
    # In C's order, which the format takes for granted.
    return as_json(header), {name: np.array(array, order="C") for name, array in arrays.items()}


def read(path: str | Path) -> dict[str, Any]:
    """The fields of the run that `write` wrote: leaves that are not in the file are zeros. Nothing is compiled for it.

    Raises RunError for a file of another kind or damaged, for one that a version with other settings wrote, and where
    the algorithm cannot be imported.
    """
    header, arrays = _contents(path)
    version = header["versions"]["reverie"]
    if header["format"] > FORMAT:
        raise RunError(f"{str(path)!r} was written by reverie {version}, in a format that {__version__} does not know.")
    algorithm, seeds = from_config(header["algorithm"], version), (header["seed"],)
    try:
        statistics = {name.removeprefix(SPEC): array for name, array in arrays.items() if name.startswith(SPEC)}
        spec = Spec.of_parts(header["spec"], statistics)
    except (KeyError, ValueError) as error:
        raise RunError(f"{str(path)!r} has no complete specification of the run's data ({error}).") from error
    stored = {_number(name): array for name, array in arrays.items() if name.startswith(STATE)}
    shapes, structure = jax.tree.flatten(state_shapes(algorithm, spec, seeds))
    if len(shapes) != header["leaves"]:
        raise RunError(
            f"{str(path)!r} is of a state of {header['leaves']} arrays where {algorithm.name} has {len(shapes)}: it "
            f"was written by another version of it (reverie {version})."
        )
    leaves = [_leaf(stored.get(number), shape, path, version) for number, shape in enumerate(shapes)]
    return {
        "algorithm": algorithm,
        "spec": spec,
        "states": jax.device_put(jax.tree.unflatten(structure, leaves)),
        "step": header["step"],
        "seeds": seeds,
        "data": header["data"],
        "changes": tuple((name, value) for name, value in header["changes"]),
        "asked": header["asked"],
        "kept": frozenset(stored),
        "about": header["about"],
    }


def check_reads(run: Run, changes: Mapping[str, Any]) -> None:
    """Raise RunError where a run of a file, after these changes of its acting, reads what the file does not have."""
    if run.kept is None:
        return
    if missing := sorted(reads(run.algorithm, run.spec) - run.kept):
        names, changed = names_of(run.algorithm, run.spec), ", ".join(f"{k}={v}" for k, v in changes.items())
        more = f" and {len(missing) - 1} arrays more" if missing[1:] else ""
        raise RunError(
            f"{run.algorithm.name} with {changed} reads {names[missing[0]]}{more}, which the file of the run does not "
            f"have; load the run's folder, or export that with acting({changed})."
        )


def check_whole(run: Run | None) -> None:
    """Raise RunError where a training is to begin from a run of a file."""
    if run is not None and run.kept is not None:
        raise RunError(
            f"The run of {run.algorithm.name} to begin from is of an exported file, which has only what acting reads; "
            "give the folder that it was trained in."
        )


def _contents(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(path).expanduser(), framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            if header is None:
                raise RunError(
                    f"{str(path)!r} is of safetensors and holds no run; give one that `reverie export` wrote."
                )
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise RunError(
            f"{str(path)!r} is no file of a run, or damaged ({error}); give one that `reverie export` wrote, or the "
            "folder of a run."
        ) from None


def _number(name: str) -> int:
    return int(name.split("/")[1])


def _leaf(array: np.ndarray | None, shape: Any, path: str | Path, version: str) -> np.ndarray:
    """Of one seed, `[1, ...]`; what was halved as it was."""
    if array is None:
        return np.zeros(shape.shape, shape.dtype)
    halved = array.dtype == np.float16 and shape.dtype == np.float32
    if array.shape != shape.shape[1:] or not (halved or array.dtype == shape.dtype):
        raise RunError(
            f"{str(path)!r} holds an array {array.dtype}{list(array.shape)} where the algorithm has "
            f"{shape.dtype}{list(shape.shape[1:])}: it was written by another version of it (reverie {version})."
        )
    return array.astype(shape.dtype)[None]


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32:
        return array
    if (np.abs(array) > np.finfo(np.float16).max).any():
        raise RunError(f"{name!r} has a number beyond 65504, the largest of float16; export without half.")
    return array.astype(np.float16)


def as_json(header: dict[str, Any]) -> str:
    """Raises RunError for what JSON cannot hold."""
    try:
        return json.dumps(header, default=_plain)
    except TypeError as error:
        raise RunError(f"A run's file holds plain values beside its arrays, and {error}.") from None


def _plain(value: Any) -> Any:
    """Of numbers and arrays of NumPy and JAX."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{value!r} is none")
