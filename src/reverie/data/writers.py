"""Where data sets go to: D4RL's HDF5 layout, Minari, OGBench's npz and folders of shards."""

import json
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from reverie.data.fields import Field, Space, flatten
from reverie.data.schemes import (
    BOUNDS,
    brief,
    check_minari_name,
    choose,
    imported_minari,
    is_goal_environment,
    minari_path,
)
from reverie.errors import DataError
from reverie.paths import replacing

if TYPE_CHECKING:
    from reverie.data.dataset import Dataset


def save(data: "Dataset", target: str) -> None:
    """Writes to `"d4rl:PATH.hdf5"`, `"minari:ID"`, `"ogbench:PATH.npz"` or `"parquet:FOLDER"`; see `Dataset.save`."""
    scheme, _, rest = target.partition(":")
    choose(WRITERS, target, scheme, rest)(data, rest)


def check_target(target: str, episodes: int = 1) -> None:
    """Raises DataError where `save` could not write so many one-step episodes to the target, or would replace a file:
    to ask before long work."""
    scheme, _, rest = target.partition(":")
    choose(WRITERS, target, scheme, rest)
    if scheme == "minari":
        _check_minari_size(rest, episodes, episodes)
        _check_minari_free(rest)
    path = Path(rest).expanduser()
    if scheme != "minari" and (path.exists() or not path.absolute().parent.is_dir()):
        why = "exists already" if path.exists() else "is in no existing folder"
        raise DataError(f"{rest!r} {why}; give another name.")


def write_d4rl(data: "Dataset", path: str) -> None:
    """Writes D4RL's layout; the file appears whole or not at all, and replaces one of the same name.

    The observations of a dictionary are a group with one array for every name. `costs` are written as in DSRL.
    """
    import h5py

    with replacing(path) as unfinished, h5py.File(unfinished, "w") as file:
        for key, array in data.arrays().items():
            if key not in BOUNDS and (data.terminals_known or key != "terminals"):
                file.create_dataset(key, data=array, compression="gzip", compression_opts=1, shuffle=True)
        for key, value in data.attributes.items():
            file.attrs[key] = value
        if data.action_low is not None and data.action_high is not None:
            file.attrs["action_low"], file.attrs["action_high"] = data.action_low, data.action_high


def write_minari(data: "Dataset", identity: str) -> None:
    """Creates a local Minari data set. It must not exist yet, and the data need rewards and next observations.

    A dictionary becomes a Dict space; images are stored as they are, without JPEG's loss. Costs become the info
    `"costs"`, from which `read_minari` takes them.
    """
    minari = imported_minari()
    from gymnasium.spaces import Box

    check_runs(data, f"'minari:{identity}'")
    if (inside := data.terminals & ~data.last).any():
        raise DataError(
            f"'minari:{identity}' cannot hold a terminal (row {int(np.argmax(inside))}) after which the episode goes "
            "on; save to d4rl:."
        )
    space, rewards = _gymnasium_space(identity, data.observation_space), data.require_rewards()
    _check_minari_size(identity, len(data.episodes), len(data))
    low, high = data.action_bounds
    buffers = [_buffer(data, rewards, slice(start, stop)) for start, stop in data.episodes]
    _check_minari_free(identity)
    try:
        with warnings.catch_warnings():
            # Minari warns of every piece of provenance that is not given; the attributes carry it.
            warnings.simplefilter("ignore")
            created = minari.create_dataset_from_buffers(
                identity,
                buffers,
                observation_space=space,
                action_space=Box(low, high, dtype=np.float32),
                data_format="hdf5",
                **_without_loss(data.observation_space),
            )
            created.storage.update_metadata({"reverie_attributes": json.dumps(dict(data.attributes))})
    except Exception as error:
        shutil.rmtree(minari_path(identity).parent, ignore_errors=True)
        raise DataError(f"'minari:{identity}' cannot be written ({brief(error)}); nothing was kept of it.") from error


def _check_minari_free(identity: str) -> None:
    imported_minari()
    check_minari_name(identity)
    if minari_path(identity).parent.exists():
        raise DataError(f"The Minari data set {identity!r} exists already; choose another name or version.")


# Of one-step episodes Minari 0.5 wrote 670 a second and read 760, and each took 15 kB, 100 times its numbers.
_MINARI_EPISODES, _MINARI_BYTES = 50_000, 15_000


def _check_minari_size(identity: str, episodes: int, steps: int) -> None:
    if episodes > _MINARI_EPISODES and steps < 10 * episodes:
        raise DataError(
            f"'minari:{identity}' would hold {episodes} episodes of {steps / episodes:.3g} steps, and Minari takes "
            f"{_MINARI_BYTES // 1000} kB for each, {episodes * _MINARI_BYTES / 1e9:.3g} GB in all; save to d4rl:, or "
            f"at most {_MINARI_EPISODES} such episodes."
        )


def check_runs(data: "Dataset", target: str) -> None:
    """Raises DataError where an episode of T steps is no run of T + 1 observations, so that what follows a step would
    have to be the next one's: all that some layouts have room for."""
    if data.next_observations is None:
        raise DataError(
            f"{target} stores what follows an episode's last step, and 'next_observations' is missing; save to d4rl:."
        )
    inside = np.flatnonzero(~data.last[:-1])
    now, successors = flatten("", data.observations), flatten("", data.next_observations)
    differ = [_rows_differ(successors[key][inside], now[key][inside + 1]) for key in now]
    broken = inside[np.any(differ, axis=0)]
    if broken.size:
        raise DataError(
            f"'next_observations' at row {broken[0]} is not the observation of row {broken[0] + 1}, in the same "
            f"episode, and {target} stores only one of them; save to d4rl:."
        )


def _rows_differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first != second).any(axis=tuple(range(1, first.ndim)))


def _buffer(data: "Dataset", rewards: np.ndarray, rows: slice) -> Any:
    from minari.data_collector import EpisodeBuffer

    costs = {} if data.costs is None else {"costs": data.costs[rows]}
    return EpisodeBuffer(
        observations=jax.tree.map(
            lambda now, successors: np.concatenate([now[rows], successors[rows][-1:]]),
            data.observations,
            data.next_observations,
        ),
        actions=data.actions[rows],
        rewards=rewards[rows],
        terminations=data.terminals[rows],
        truncations=data.timeouts[rows],
        infos={key: value[rows] for key, value in data.infos.items()} | costs,
    )


def _gymnasium_space(identity: str, space: Space) -> Any:
    from gymnasium.spaces import Box, Dict

    if isinstance(space, Field):
        limits = (-np.inf, np.inf) if space.dtype == "float32" else np.iinfo(space.dtype)
        low, high = limits if isinstance(limits, tuple) else (limits.min, limits.max)
        return Box(low, high, space.shape, np.dtype(space.dtype))
    if is_goal_environment(space):
        raise DataError(
            f"'minari:{identity}' would be read as a goal environment's, for its observations are named "
            f"{', '.join(space)}; save to d4rl:, or rename them."
        )
    return Dict({name: _gymnasium_space(identity, field) for name, field in space.items()})


def _without_loss(space: Space) -> dict[str, bool]:
    # Only where there are images: releases that know no such option can still write everything else.
    fields = [space] if isinstance(space, Field) else space.values()
    return {"jpeg_encoding": False} if any(field.kind == "image" for field in fields) else {}


def write_ogbench(data: "Dataset", path: str) -> None:
    """Writes OGBench's layout, as `ogbench.py` describes it; whole or not at all, and in place of one of the same name.

    A trajectory's last row repeats action and infos of the step before: nothing is done there, and nothing reads them.
    Raises DataError where observations are a dictionary, or successors are missing or not the next row.
    """
    check_runs(data, f"'ogbench:{path}'")
    if isinstance(data.observation_space, dict):
        raise DataError(f"'ogbench:{path}' cannot hold observations that are a dictionary; save to d4rl:.")
    steps = np.arange(len(data))
    # Every row once, and the last of each trajectory twice.
    rows = np.repeat(steps, 1 + data.last)
    closing = np.flatnonzero(data.last) + 1 + np.arange(len(data.episodes))
    columns = {"observations": data.observations, "actions": data.actions, **data.infos}
    columns |= {key: getattr(data, key) for key in ("rewards", "costs") if getattr(data, key) is not None}
    if data.terminals.any():
        columns["masks"] = 1.0 - data.terminals.astype(np.float32)
    arrays = {key: column[rows] for key, column in columns.items()}
    arrays["observations"][closing] = data.next_observations[data.last]  # type: ignore[index]  # an array: see above
    arrays["terminals"] = np.zeros(len(rows), bool)
    arrays["terminals"][closing] = True
    arrays["attributes"] = np.array(json.dumps(dict(data.attributes) | _bounds(data)))
    with replacing(path) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def _bounds(data: "Dataset") -> dict[str, Any]:
    found = {key: getattr(data, key) for key in BOUNDS}
    return {key: bound.tolist() for key, bound in found.items() if bound is not None}


def write_parquet(data: "Dataset", folder: str) -> None:
    """Writes a folder of shards, as a `ShardWriter` does, which must not exist yet, or be empty."""
    from reverie.data.shard_writer import ShardWriter  # which is made of data sets

    with ShardWriter(folder) as writer:
        writer.append(data)


WRITERS = {"d4rl": write_d4rl, "minari": write_minari, "ogbench": write_ogbench, "parquet": write_parquet}
