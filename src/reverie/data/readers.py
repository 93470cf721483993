"""Where data sets come from: D4RL's HDF5 layout, Minari, the layouts of `ogbench`, `robomimic` and `lerobot`, folders
of shards, and several of these joined."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reverie.data import selecting
from reverie.data.dataset import Dataset, concatenate
from reverie.data.fields import Tree
from reverie.data.lerobot import read_lerobot_source
from reverie.data.ogbench import read_ogbench
from reverie.data.robomimic import read_robomimic_source
from reverie.data.schemes import (
    BOUNDS,
    EXAMPLES,
    OPTIONS,
    PER_STEP,
    brief,
    check_minari_name,
    choose,
    imported_minari,
    is_goal_environment,
    minari_path,
    opened_hdf5,
    told,
)
from reverie.data.shards import read_parquet_folder
from reverie.errors import DataError, undamaged

Reader = Callable[[str], Dataset]


def read(source: str, generated: Reader | None = None, readers: Mapping[str, Reader] | None = None) -> Dataset:
    """Reads a data set, with every check of `Dataset.from_arrays`.

    - `"d4rl:PATH.hdf5"`: `observations, actions, timeouts`, and where present `terminals`, `rewards`, `costs` (as in
      DSRL), `next_observations`, `infos/...`. Observations that are a group become a dictionary. A file without
      `timeouts` is refused: its cut episodes cannot be told.
    - `"minari:ID"`: among the local data sets ($MINARI_DATASETS_PATH), else downloaded. Of a goal environment's
      observations, `observation` becomes the observations and `desired_goal` the info `"goal"`; any other Dict space
      becomes a dictionary.
    - `"ogbench:PATH.npz"`: OGBench's files, whose `terminals` mark where a trajectory was cut.
    - `"robomimic:PATH.hdf5"`: see `read_robomimic`; after it `@keys=NAME,NAME` (or `@vector=NAME,NAME`: these as one
      vector), `@filter=NAME` and `@actions=NAME`.
    - `"lerobot:FOLDER"`: see `read_lerobot`; after it `@keys` or `@vector`, `@actions=NAME`, `@image_size=96` (or
      `96x128`, height x width) and `@episodes=0:50` (or `0,3,7`).
    - `"parquet:FOLDER"`: what a `ShardWriter` has written, all of it into memory.
    - a bare name, such as `"pointmaze-umaze"`: what `generated` makes of it.
    - what `readers` have in place of these, by scheme.
    - any of these with `@best=0.1` after it: the tenth of its episodes with the highest returns; with `@max_cost=25`:
      those that cost at most 25; with `@every=10`: every tenth episode, from the first on; with `@times=20`: all of
      them twenty times, for a larger share among several sources; or with `@chunk=4`: four actions in a row as one
      (`in_chunks`).
    - several of these, joined as `"d4rl:real.hdf5+d4rl:synthetic.hdf5"`: see `concatenate`. (A `+` that no source
      follows belongs to a file's name.)

    Raises DataError, naming the source, where it is unknown, where the file is missing, damaged or incomplete, and
    where several do not match.
    """
    parts = _PLUS.split(source)
    if len(parts) > 1:
        datasets = [read(part, generated, readers) for part in parts]
        with _named(source):
            joined = concatenate(*datasets)
        return replace(joined, attributes={**joined.attributes, "source": source})
    if selection := selecting.parted(source):
        whole = read(selection[0], generated, readers)
        with _named(source):
            part = selecting.select(whole, *selection[1:])
        return replace(part, attributes={**part.attributes, "source": source})
    scheme, colon, rest = source.partition(":")
    if not colon and generated is not None:
        with _named(source):
            return generated(source)
    reader = choose({**READERS, **(readers or {})}, source, scheme, rest)
    place = told(scheme, rest)[0] if scheme in OPTIONS else rest
    with _named(source, place), undamaged(repr(source), DataError):
        return reader(rest)


_PLUS = re.compile(rf"\+(?=(?:{'|'.join(EXAMPLES)}):|[\w-]+(?:[+@]|$))")


@contextmanager
def _named(source: str, rest: str = "") -> Iterator[None]:
    """Errors begin with the source, unless they have its name already."""
    try:
        yield
    except DataError as error:
        if repr(source) in str(error) or (rest and repr(rest) in str(error)):
            raise
        raise DataError(f"{source!r}: {error}") from error


# D4RL's HDF5 layout --------------------------------------------------------------------------------------------------

_REQUIRED = ("observations", "actions", "timeouts")


def read_d4rl(path: str) -> Dataset:
    """The data set in an HDF5 file of D4RL's layout; the file's attributes become the data set's."""
    with opened_hdf5(path) as file:
        items = {key: file[key] for key in PER_STEP if _is_data(key, file.get(key))}
        missing = [key for key in _REQUIRED if key not in items]
        if missing:
            raise DataError(_incomplete(path, missing, sorted(file)))
        arrays = {key: _column(key, _read(item)) for key, item in items.items()}
        infos = _read(file["infos"]) if "infos" in file else {}
        attributes = dict(file.attrs)
    bounds = {key: attributes.pop(key) for key in BOUNDS if key in attributes}
    attributes.setdefault("name", Path(path).stem)
    return Dataset.from_arrays(**arrays, **bounds, infos=infos, attributes={**attributes, "source": f"d4rl:{path}"})


def _incomplete(path: str, missing: list[str], there: list[str]) -> str:
    message = f"{path!r} lacks {', '.join(map(repr, missing))} (it has {', '.join(there) or 'nothing'}); "
    if missing == ["timeouts"]:
        return message + (
            "add one flag a step, true at the last step of every episode that a time limit cut, "
            "so that a cut is not taken for the end of the task."
        )
    return message + "give a file of D4RL's layout, or use Dataset.from_arrays."


def _is_data(key: str, item: Any) -> bool:
    """Observations may be a group of arrays."""
    return hasattr(item, "shape") or (item is not None and key.endswith("observations") and len(item) > 0)


def _read(item: Any) -> Tree:
    """An array, or a group's arrays by their path."""
    if hasattr(item, "shape"):
        return np.asarray(item[...])
    found: dict[str, Any] = {}
    item.visititems(lambda key, each: found.update({key: each[...]} if hasattr(each, "shape") else {}))
    return found


def _column(key: str, tree: Tree) -> Tree:
    # Some of D4RL's first files keep rewards and flags as one column of a matrix.
    flat = key not in ("observations", "next_observations", "actions") and tree.shape[1:] == (1,)
    return tree[:, 0] if flat else tree


# Minari --------------------------------------------------------------------------------------------------------------


def read_minari(identity: str) -> Dataset:
    """A Minari data set, local or downloaded. An episode that ends with neither flag counts as cut."""
    source = _minari_source(imported_minari(), identity)
    try:
        episodes = [_minari_episode(episode) for episode in source.iterate_episodes()]
    except (OSError, KeyError) as error:
        raise DataError(f"'minari:{identity}' is damaged ({brief(error)}); delete and download it again.") from error
    if not episodes:
        raise DataError(f"'minari:{identity}' holds no episode; collect some first.")
    shared = set.intersection(*(set(episode["infos"]) for episode in episodes))
    infos = {key: np.concatenate([episode["infos"][key] for episode in episodes]) for key in sorted(shared)}
    steps = [{key: value for key, value in episode.items() if key != "infos"} for episode in episodes]
    arrays = jax.tree.map(lambda *parts: np.concatenate(parts), *steps)
    costs = infos.pop("costs", None)
    attributes = json.loads(source.storage.metadata.get("reverie_attributes", "{}"))
    if source.env_spec is not None:
        attributes["environment"] = source.env_spec.id
    attributes = {"name": identity, **attributes, "source": f"minari:{identity}"}
    bounds = _minari_bounds(source.action_space, arrays["actions"])
    return Dataset.from_arrays(**arrays, **bounds, costs=costs, infos=infos, attributes=attributes)


def _minari_source(minari: Any, identity: str) -> Any:
    check_minari_name(identity)
    local = minari_path(identity).exists()
    try:
        return minari.load_dataset(identity, download=not local)
    # Disk, network, hub and registry each raise their own kinds of error.
    except Exception as error:
        if local:
            message = f"The Minari data set {identity!r} is on this machine but cannot be read ({brief(error)}); "
            raise DataError(message + "delete it and download or collect it again.") from error
        message = f"There is no Minari data set {identity!r} on this machine, and no download ({brief(error)}); "
        raise DataError(message + "'minari list local' and 'minari list remote' tell the names.") from error


def _minari_episode(episode: Any) -> dict[str, Any]:
    observations, goals = _parts(episode.observations)
    steps = len(episode.rewards)
    timeouts = np.array(episode.truncations, dtype=bool)
    timeouts[-1:] |= not episode.terminations[-1:].any()
    return {
        "observations": jax.tree.map(lambda x: x[:steps], observations),
        "next_observations": jax.tree.map(lambda x: x[1:], observations),
        "actions": _floats(episode.actions),
        "rewards": _floats(episode.rewards),
        "terminals": np.array(episode.terminations, dtype=bool),
        "timeouts": timeouts,
        "infos": _minari_infos(episode.infos or {}, steps) | ({} if goals is None else {"goal": goals[:steps]}),
    }


def _parts(observations: Any) -> tuple[Tree, np.ndarray | None]:
    """Observations, T + 1 of them, and in a goal environment goals `[T+1, g]`."""
    if not isinstance(observations, dict):
        return _floats(observations), None
    if is_goal_environment(observations):
        return _floats(observations["observation"]), _joined(observations["desired_goal"])
    return {key: _named_part(key, value) for key, value in observations.items()}, None


def _named_part(key: str, value: Any) -> np.ndarray:
    if isinstance(value, dict | tuple):
        raise DataError(
            f"The observations' part {key!r} is made of parts itself; flatten them and use Dataset.from_arrays."
        )
    return _floats(value)


def _joined(goals: Any) -> np.ndarray:
    """A goal of several named parts as one vector, the parts in alphabetical order."""
    if isinstance(goals, dict):
        return np.concatenate([_joined(goals[key]) for key in sorted(goals)], axis=-1)
    return _floats(goals)


def _minari_infos(infos: Mapping[str, Any], steps: int) -> dict[str, np.ndarray]:
    """Numbers with one row a step; of one row more the first belongs to the reset and is dropped."""
    arrays = {
        key: value for key, value in infos.items() if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    }
    return {key: value[-steps:] for key, value in arrays.items() if value.ndim > 0 and len(value) in (steps, steps + 1)}


def _minari_bounds(space: Any, actions: np.ndarray) -> dict[str, Any]:
    """The action space's bounds, unless they are infinite or the recorded actions themselves break them."""
    low, high = getattr(space, "low", np.inf), getattr(space, "high", np.inf)
    kept = np.isfinite(low).all() and np.isfinite(high).all() and np.all((low <= actions) & (actions <= high))
    return {"action_low": low, "action_high": high} if kept else {}


def _floats(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype == np.float64 else array


READERS: dict[str, Reader] = {
    "d4rl": read_d4rl,
    "minari": read_minari,
    "ogbench": read_ogbench,
    "robomimic": read_robomimic_source,
    "lerobot": read_lerobot_source,
    "parquet": read_parquet_folder,
}
