"""robomimic's HDF5 layout (Mandlekar et al. 2021): a group a trajectory, `data/demo_0` and so on.

Each holds `actions`, `rewards`, `dones`, `states`, and the groups `obs` and `next_obs` with one array an observation.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data import dones
from reverie.data.dataset import Dataset
from reverie.data.fields import one_vector
from reverie.data.schemes import check_memory, named_keys, opened_hdf5, source_of, told
from reverie.errors import DataError


def read_robomimic_source(rest: str) -> Dataset:
    """What `rest` of a source names: `PATH@keys=NAME,NAME@filter=NAME@actions=NAME`, `vector` for `keys`."""
    path, options = told("robomimic", rest)
    keys, flat = named_keys(options)
    return read_robomimic(path, keys, options.get("filter"), options.get("actions", "actions"), flat)


def read_robomimic(
    path: str,
    keys: Sequence[str] | None = None,
    filter_key: str | None = None,
    action_key: str = "actions",
    flat: bool = False,
) -> Dataset:
    """The data in a file of the layout, the trajectories by their numbers.

    The observations are a dictionary of `keys` (all in `obs` where None): images uint8 `[N, H, W, C]`, everything else
    vectors, of one number where there is one a step, and of all numbers where there are several axes. With `flat` the
    vectors are one, in the order of `keys`. `filter_key` names a list of trajectories in `mask`, such as `"train"`.
    `action_key` is another array of actions, such as `"actions_abs"`. Successors are read from `next_obs`, except where
    there are images, which would take twice the memory. `states` become an info where all have one length, and the
    environment's name an attribute.

    robomimic writes a done at a trajectory's end, at every state of success, or at both, and does not say which: see
    `dones.ends` for what is a terminal and what a timeout. Rewards of 0 and 1 alone tell of success.

    Raises DataError for a file that is missing, damaged or of another layout, a key, filter or trajectory that is not
    there, rows that differ in number or shape, and images that are not uint8.
    """
    with opened_hdf5(path) as file:
        demos = _demos(file, path, filter_key, action_key)
        chosen = _keys(demos[0], path, keys)
        lengths = [len(demo[action_key]) for demo in demos]
        check_memory(path, _bytes(demos[0], chosen) * sum(lengths), "read fewer by @keys=NAME or @filter=NAME")
        observations = {key: _joined(demos, f"obs/{key}", lengths, path) for key in chosen}
        actions = _joined(demos, action_key, lengths, path, cast=False)
        rewards, done = (_column(demos, key, lengths, path) for key in ("rewards", "dones"))
        successors = _successors(demos, observations, lengths, path)
        states = _states(demos, lengths, path)
        about = _about(file["data"].attrs)
    last = np.zeros(len(actions), bool)
    last[np.cumsum(lengths) - 1] = True
    options = {
        "vector" if flat else "keys": chosen if flat else keys,
        "filter": filter_key,
        "actions": None if action_key == "actions" else action_key,
    }
    return Dataset.from_arrays(
        one_vector(observations) if flat else observations,
        actions,
        rewards,
        next_observations=one_vector(successors) if flat and successors else successors,
        infos=states,
        attributes={"name": Path(path).stem, **about, "source": source_of("robomimic", path, options)},
        **dones.ends(None if done is None else done > 0, last, dones.successes(rewards)),  # type: ignore[arg-type]
    )


def _demos(file: Any, path: str, filter_key: str | None, action_key: str) -> list[Any]:
    """The groups of the trajectories that have a step."""
    group = file.get("data")
    names = [name for name in (group or ()) if hasattr(group[name], "keys")]
    if not names:
        there = ", ".join(file) or "nothing"
        raise DataError(f"{path!r} lacks the trajectories 'data/demo_0' and so on (it has {there}); is it robomimic's?")
    if filter_key is not None:
        names = _filtered(file, path, filter_key, set(names))
    for name in names:
        if action_key not in group[name]:
            raise DataError(
                f"{path!r} lacks 'data/{name}/{action_key}' (it has {', '.join(group[name])}); name the actions by "
                "@actions=NAME."
            )
    demos = [group[name] for name in sorted(names, key=_number) if len(group[name][action_key])]
    if not demos:
        raise DataError(f"{path!r} holds no step; give a file with at least one trajectory.")
    return demos


def _number(name: str) -> tuple[int, str]:
    found = re.search(r"\d+$", name)
    return (int(found[0]) if found else -1, name)


def _filtered(file: Any, path: str, filter_key: str, there: set[str]) -> list[str]:
    masks = file.get("mask", {})
    if filter_key not in masks:
        listed = f"has {', '.join(masks)}" if masks else "has none at all"
        raise DataError(f"{path!r} has no filter {filter_key!r}; it {listed}.")
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in masks[filter_key][...]]
    if missing := [name for name in names if name not in there]:
        raise DataError(f"The filter {filter_key!r} in {path!r} lists {missing[0]!r}, which is not in 'data'.")
    return names


def _keys(demo: Any, path: str, keys: Sequence[str] | None) -> list[str]:
    there = list(demo.get("obs", ()))
    if not there:
        raise DataError(
            f"{path!r} holds no observations (no '{demo.name[1:]}/obs'): a raw file, of which robomimic's script "
            "dataset_states_to_obs.py makes one with observations."
        )
    for key in keys or ():
        if key not in there:
            raise DataError(f"{path!r} has no observation {key!r}; it has {', '.join(there)}.")
    return list(keys or there)


def _bytes(demo: Any, keys: list[str]) -> int:
    """Of a step's images."""
    shapes = [getattr(demo["obs"][key], "shape", ())[1:] for key in keys]
    return sum(int(np.prod(shape)) for shape in shapes if len(shape) == 3)


def _joined(demos: list[Any], key: str, lengths: list[int], path: str, cast: bool = True) -> np.ndarray:
    """The array of all trajectories, one after another, filled in place: images are in memory once. `cast` makes
    vectors of what is no image."""
    shape, dtype = _checked(demos[0], demos[0], key, lengths[0], path).shape[1:], demos[0][key].dtype
    if len(shape) == 3 and dtype != np.uint8:
        raise DataError(
            f"{key!r} in {path!r} holds images of {dtype}, {list(shape)}; images must be uint8: leave it out by "
            "@keys=NAME,NAME with the others."
        )
    vectors = cast and not (len(shape) > 1 and dtype == np.uint8)
    joined = np.empty((sum(lengths), *shape), np.float32 if vectors else dtype)
    start = 0
    for demo, length in zip(demos, lengths, strict=True):
        with np.errstate(over="ignore"):  # what is too large is said by the checks, with its row
            joined[start : start + length] = _checked(demo, demos[0], key, length, path)[...]
        start += length
    return joined.reshape(len(joined), -1) if vectors else joined


def _checked(demo: Any, first: Any, key: str, length: int, path: str) -> Any:
    """The item of one trajectory, whose rows are as many as its actions and like those of the first trajectory."""
    item, name = demo.get(key), f"{demo.name[1:]}/{key}"
    if not hasattr(item, "shape"):
        raise DataError(f"{path!r} lacks {name!r}; every trajectory must have what the first one has.")
    if item.ndim == 0 or len(item) != length:
        raise DataError(f"{name!r} in {path!r} has shape {item.shape} where its actions have {length} rows.")
    if item.shape[1:] != first[key].shape[1:]:
        raise DataError(
            f"{name!r} in {path!r} has rows of shape {list(item.shape[1:])} where those of the first trajectory have "
            f"{list(first[key].shape[1:])}; every trajectory must have the same."
        )
    return item


def _column(demos: list[Any], key: str, lengths: list[int], path: str) -> np.ndarray | None:
    """One number a step, or None where the first trajectory has none."""
    return _joined(demos, key, lengths, path)[:, 0] if key in demos[0] else None


def _successors(
    demos: list[Any], observations: dict[str, np.ndarray], lengths: list[int], path: str
) -> dict[str, np.ndarray] | None:
    images = any(array.ndim == 4 for array in observations.values())
    if images or not all(f"next_obs/{key}" in demo for demo in demos for key in observations):
        return None
    return {key: _joined(demos, f"next_obs/{key}", lengths, path) for key in observations}


def _states(demos: list[Any], lengths: list[int], path: str) -> dict[str, np.ndarray]:
    """The simulator's states, unless some are empty or their lengths differ, as those of different scenes do."""
    shapes = [demo["states"].shape if "states" in demo else () for demo in demos]
    alike = all(shape == (length, *shapes[0][1:]) for shape, length in zip(shapes, lengths, strict=True))
    return {"states": _joined(demos, "states", lengths, path)} if alike and np.prod(shapes[0]) else {}


def _about(attributes: Any) -> dict[str, Any]:
    try:
        return {"environment": str(json.loads(attributes["env_args"])["env_name"])}
    except (KeyError, TypeError, ValueError):  # not there, or nothing that has a name
        return {}
