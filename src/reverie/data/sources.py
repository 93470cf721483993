"""Where data come from and go to: D4RL's HDF5 layout, Minari, OGBench's npz, and data that Reverie generates."""

import json
import os
import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reverie.data.dataset import Dataset, concatenate
from reverie.errors import DataError


def load_dataset(source: str) -> Dataset:
    """Reads a data set, with every check of `Dataset.from_arrays`.

    - `"d4rl:PATH.hdf5"`: `observations, actions, timeouts`, and where present `terminals`, `rewards`,
      `next_observations`, `infos/...`. A file without `timeouts` is refused: its cut episodes cannot be told.
    - `"minari:ID"`: among the local data sets ($MINARI_DATASETS_PATH), else downloaded. Of a goal environment's
      observations, `observation` becomes the observations and `desired_goal` the info `"goal"`.
    - `"ogbench:PATH.npz"`: the published files, whose `terminals` mark where a trajectory was cut.
    - a bare name, such as `"pointmaze-umaze"`: generated on first use, then kept under $REVERIE_CACHE
      (else ~/.cache/reverie).
    - several of these, joined as `"d4rl:real.hdf5+d4rl:synthetic.hdf5"`: see `concatenate`. (A `+` that no source
      follows belongs to a file's name.)

    Raises DataError for an unknown source, where the file is missing, damaged or incomplete, and where several do not
    match.
    """
    parts = _PLUS.split(source)
    if len(parts) > 1:
        joined = concatenate(*map(load_dataset, parts))
        return replace(joined, attributes={**joined.attributes, "source": source})
    scheme, colon, rest = source.partition(":")
    if not colon:
        return _generated(source)
    return _choose(READERS, source, scheme, rest)(rest)


_PLUS = re.compile(r"\+(?=(?:d4rl|minari|ogbench):|[\w-]+(?:\+|$))")


def check_target(target: str, episodes: int = 1) -> None:
    """Raises DataError where `save` could not write so many one-step episodes to the target, or would replace a file:
    to ask before long work."""
    scheme, _, rest = target.partition(":")
    _choose(WRITERS, target, scheme, rest)
    if scheme == "minari":
        _check_minari_size(rest, episodes, episodes)
    path = Path(rest).expanduser()
    if scheme == "d4rl" and (path.exists() or not path.absolute().parent.is_dir()):
        why = "exists already" if path.exists() else "is in no existing folder"
        raise DataError(f"{rest!r} {why}; give another name.")


def save(data: Dataset, target: str) -> None:
    """Writes to `"d4rl:PATH.hdf5"` or `"minari:ID"`; see `Dataset.save`."""
    scheme, _, rest = target.partition(":")
    _choose(WRITERS, target, scheme, rest)(data, rest)


def _choose(table: Mapping[str, Any], given: str, scheme: str, rest: str) -> Any:
    if scheme not in table or not rest:
        known = ", ".join(f"'{name}:{what}'" for name, what in _EXAMPLES.items() if name in table)
        raise DataError(f"{given!r} names no known kind of data; write one of {known}.")
    return table[scheme]


# Generated data ------------------------------------------------------------------------------------------------------


def _generated(name: str) -> Dataset:
    from reverie import __version__, environments

    if name not in environments.DATASETS:
        known = ", ".join(sorted(environments.DATASETS))
        examples = ", ".join(f"'{scheme}:{what}'" for scheme, what in _EXAMPLES.items())
        raise DataError(
            f"{name!r} is no data set that Reverie generates ({known}); for data of your own write {examples}."
        )
    path = cache_folder() / "datasets" / f"{name}-{__version__}.hdf5"
    if not path.exists():
        write_d4rl(environments.make_dataset(name), str(path))
    data = read_d4rl(str(path))
    return replace(data, attributes={**data.attributes, "source": name})


def cache_folder() -> Path:
    """$REVERIE_CACHE, else ~/.cache/reverie."""
    return Path(os.environ.get("REVERIE_CACHE") or Path.home() / ".cache" / "reverie")


# D4RL's HDF5 layout --------------------------------------------------------------------------------------------------

_REQUIRED = ("observations", "actions", "timeouts")
_PER_STEP = (*_REQUIRED, "terminals", "rewards", "next_observations")
_BOUNDS = ("action_low", "action_high")


def read_d4rl(path: str) -> Dataset:
    """The data set in an HDF5 file of D4RL's layout; the file's attributes become the data set's."""
    with _opened_hdf5(path) as file:
        items = {key: file[key] for key in _PER_STEP if hasattr(file.get(key), "shape")}  # a group has none
        missing = [key for key in _REQUIRED if key not in items]
        if missing:
            raise DataError(_incomplete(path, missing, sorted(file)))
        arrays = {key: _column(key, np.asarray(item[...])) for key, item in items.items()}
        infos = {key: item[...] for key, item in _infos(file).items()}
        attributes = dict(file.attrs)
    bounds = {key: attributes.pop(key) for key in _BOUNDS if key in attributes}
    attributes.setdefault("name", Path(path).stem)
    return Dataset.from_arrays(**arrays, **bounds, infos=infos, attributes={**attributes, "source": f"d4rl:{path}"})


def write_d4rl(data: Dataset, path: str) -> None:
    """Writes D4RL's layout; the file appears whole or not at all, and replaces one of the same name."""
    import h5py

    with replacing(path) as unfinished, h5py.File(unfinished, "w") as file:
        for key, array in data.arrays().items():
            if key not in _BOUNDS and (data.terminals_known or key != "terminals"):
                file.create_dataset(key, data=array, compression="gzip", compression_opts=1, shuffle=True)
        for key, value in data.attributes.items():
            file.attrs[key] = value
        if data.action_low is not None and data.action_high is not None:
            file.attrs["action_low"], file.attrs["action_high"] = data.action_low, data.action_high


@contextmanager
def _opened_hdf5(path: str) -> Iterator[Any]:
    import h5py

    _check_file(path)
    try:
        with h5py.File(Path(path).expanduser(), "r") as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path!r} is not a whole HDF5 file ({error}); download or write it again.") from error


def _check_file(path: str) -> None:
    if not Path(path).expanduser().is_file():
        raise DataError(f"There is no file {path!r}; check the path.")


def _incomplete(path: str, missing: list[str], there: list[str]) -> str:
    message = f"{path!r} lacks {', '.join(map(repr, missing))} (it has {', '.join(there) or 'nothing'}); "
    if missing == ["timeouts"]:
        return message + (
            "add one flag a step, true at the last step of every episode that a time limit cut, "
            "so that a cut is not taken for the end of the task."
        )
    return message + "give a file of D4RL's layout, or use Dataset.from_arrays."


def _column(key: str, array: np.ndarray) -> np.ndarray:
    # Some of D4RL's first files keep rewards and flags as one column of a matrix.
    flat = key not in ("observations", "next_observations", "actions") and array.shape[1:] == (1,)
    return array[:, 0] if flat else array


def _infos(file: Any) -> dict[str, Any]:
    if "infos" not in file:
        return {}
    found: dict[str, Any] = {}
    file["infos"].visititems(lambda key, item: found.update({key: item} if hasattr(item, "shape") else {}))
    return found


@contextmanager
def replacing(path: str) -> Iterator[Path]:
    """A file to write that takes the name `path` at the end, if nothing is raised."""
    final = Path(path).expanduser()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=final.parent, prefix=f".{final.name}.")
    except OSError as error:
        raise DataError(f"{path!r} cannot be written ({error.strerror}); choose another place.") from error
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        unfinished.replace(final)
    except OSError as error:
        raise DataError(f"{path!r} cannot be written ({error}); free some space or choose another place.") from error
    finally:
        unfinished.unlink(missing_ok=True)


# Minari --------------------------------------------------------------------------------------------------------------


def read_minari(identity: str) -> Dataset:
    """A Minari data set, local or downloaded. An episode that ends with neither flag counts as cut."""
    source = _minari_source(_minari(), identity)
    try:
        episodes = [_minari_episode(identity, episode) for episode in source.iterate_episodes()]
    except (OSError, KeyError) as error:
        raise DataError(f"'minari:{identity}' is damaged ({_brief(error)}); delete and download it again.") from error
    if not episodes:
        raise DataError(f"'minari:{identity}' holds no episode; collect some first.")
    shared = set.intersection(*(set(episode["infos"]) for episode in episodes))
    arrays = {key: np.concatenate([episode[key] for episode in episodes]) for key in _PER_STEP}
    infos = {key: np.concatenate([episode["infos"][key] for episode in episodes]) for key in sorted(shared)}
    attributes = json.loads(source.storage.metadata.get("reverie_attributes", "{}"))
    if source.env_spec is not None:
        attributes["environment"] = source.env_spec.id
    attributes = {"name": identity, **attributes, "source": f"minari:{identity}"}
    bounds = _minari_bounds(source.action_space, arrays["actions"])
    return Dataset.from_arrays(**arrays, **bounds, infos=infos, attributes=attributes)


def write_minari(data: Dataset, identity: str) -> None:
    """Creates a local Minari data set. It must not exist yet, and the data need rewards and next observations."""
    minari = _minari()
    from gymnasium.spaces import Box

    following, rewards = _whole(data), data.require_rewards()
    _check_minari_size(identity, len(data.episodes), len(data))
    low, high = data.action_bounds
    buffers = [_buffer(data, following, rewards, slice(start, stop)) for start, stop in data.episodes]
    _check_minari_name(identity)
    if _minari_path(identity).parent.exists():
        raise DataError(f"The Minari data set {identity!r} exists already; choose another name or version.")
    try:
        with warnings.catch_warnings():
            # Minari warns of every piece of provenance that is not given; the attributes carry it.
            warnings.simplefilter("ignore")
            created = minari.create_dataset_from_buffers(
                identity,
                buffers,
                observation_space=Box(-np.inf, np.inf, (data.observation_dim,), np.float32),
                action_space=Box(low, high, dtype=np.float32),
                data_format="hdf5",
            )
            created.storage.update_metadata({"reverie_attributes": json.dumps(dict(data.attributes))})
    except Exception as error:
        shutil.rmtree(_minari_path(identity).parent, ignore_errors=True)
        raise DataError(f"'minari:{identity}' cannot be written ({_brief(error)}); nothing was kept of it.") from error


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise DataError("Minari is not installed; install it with: pip install 'reverie[minari]'") from error
    return minari


def _minari_source(minari: Any, identity: str) -> Any:
    _check_minari_name(identity)
    local = _minari_path(identity).exists()
    try:
        return minari.load_dataset(identity, download=not local)
    # Disk, network, hub and registry each raise their own kinds of error.
    except Exception as error:
        if local:
            message = f"The Minari data set {identity!r} is on this machine but cannot be read ({_brief(error)}); "
            raise DataError(message + "delete it and download or collect it again.") from error
        message = f"There is no Minari data set {identity!r} on this machine, and no download ({_brief(error)}); "
        raise DataError(message + "'minari list local' and 'minari list remote' tell the names.") from error


def _minari_path(identity: str) -> Path:
    from minari.storage.datasets_root_dir import get_dataset_path

    return get_dataset_path(identity) / "data"


def _check_minari_name(identity: str) -> None:
    from minari.dataset.minari_dataset import DATASET_ID_RE

    match = DATASET_ID_RE.fullmatch(identity)
    if match is None or match["version"] is None:
        raise DataError(f"{identity!r} is no Minari name; write it as NAMESPACE/NAME-vNUMBER, such as 'mine/maze-v0'.")


# Of one-step episodes Minari 0.5 wrote 670 a second and read 760, and each took 15 kB, 100 times its numbers.
_MINARI_EPISODES, _MINARI_BYTES = 50_000, 15_000


def _check_minari_size(identity: str, episodes: int, steps: int) -> None:
    if episodes > _MINARI_EPISODES and steps < 10 * episodes:
        raise DataError(
            f"'minari:{identity}' would hold {episodes} episodes of {steps / episodes:.3g} steps, and Minari takes "
            f"{_MINARI_BYTES // 1000} kB for each, {episodes * _MINARI_BYTES / 1e9:.3g} GB in all; save to d4rl:, or "
            f"at most {_MINARI_EPISODES} such episodes."
        )


def _minari_episode(identity: str, episode: Any) -> dict[str, Any]:
    observations, goals = _parts(identity, episode.observations)
    steps = len(episode.rewards)
    timeouts = np.array(episode.truncations, dtype=bool)
    timeouts[-1:] |= not episode.terminations[-1:].any()
    return {
        "observations": observations[:steps],
        "next_observations": observations[1:],
        "actions": _floats(episode.actions),
        "rewards": _floats(episode.rewards),
        "terminals": np.array(episode.terminations, dtype=bool),
        "timeouts": timeouts,
        "infos": _minari_infos(episode.infos or {}, steps) | ({} if goals is None else {"goal": goals[:steps]}),
    }


def _parts(identity: str, observations: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Observations `[T+1, o]` and, in a goal environment, goals `[T+1, g]`."""
    if not isinstance(observations, dict):
        return _floats(observations), None
    if "observation" not in observations:
        raise DataError(
            f"'minari:{identity}' has observations made of {', '.join(sorted(observations))}, none of them "
            f"'observation'; flatten them and use Dataset.from_arrays."
        )
    goals = observations.get("desired_goal")
    return _floats(observations["observation"]), None if goals is None else _joined(goals)


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


def _whole(data: Dataset) -> np.ndarray:
    """The next observations, where Minari's one run of T + 1 observations an episode can hold them."""
    if data.next_observations is None:
        raise DataError(
            "Minari stores what follows an episode's last step, and 'next_observations' is missing; save to d4rl:."
        )
    inside = np.flatnonzero(~(data.terminals | data.timeouts)[:-1])
    broken = inside[(data.next_observations[inside] != data.observations[inside + 1]).any(axis=1)]
    if broken.size:
        raise DataError(
            f"'next_observations' at row {broken[0]} is not the observation of row {broken[0] + 1}, in the same "
            f"episode, and Minari stores only one of them; save to d4rl:."
        )
    return data.next_observations


def _buffer(data: Dataset, following: np.ndarray, rewards: np.ndarray, rows: slice) -> Any:
    from minari.data_collector import EpisodeBuffer

    return EpisodeBuffer(
        observations=np.concatenate([data.observations[rows], following[rows][-1:]]),
        actions=data.actions[rows],
        rewards=rewards[rows],
        terminations=data.terminals[rows],
        truncations=data.timeouts[rows],
        infos={key: value[rows] for key, value in data.infos.items()},
    )


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


# OGBench -------------------------------------------------------------------------------------------------------------


def read_ogbench(path: str) -> Dataset:
    """A published OGBench file (Park et al. 2024).

    It stores T + 1 rows for a trajectory of T steps; `terminals` marks the last, which has no successor, whatever
    the task. So these are cuts: the row before is a timeout, and nothing is a terminal. There are no rewards.
    """
    arrays = _read_npz(path, ("observations", "actions", "terminals"))
    last = arrays.pop("terminals").astype(bool)
    observations, actions = arrays.pop("observations"), arrays.pop("actions")
    if not len(observations) == len(actions) == len(last):
        raise DataError(
            f"{path!r} has {len(observations)} observations, {len(actions)} actions and {len(last)} terminals; "
            f"the three must have one row a step, so download the file again."
        )
    last[-1:] = True
    rows = np.flatnonzero(~last)
    infos = {key: value[rows] for key, value in arrays.items() if value.ndim and len(value) == len(last)}
    return Dataset.from_arrays(
        observations[rows],
        actions[rows],
        terminals=np.zeros(len(rows), bool),
        timeouts=last[np.minimum(rows + 1, len(last) - 1)],
        next_observations=observations[rows + 1],
        infos=infos,
        attributes={"name": Path(path).stem, "source": f"ogbench:{path}"},
    )


def _read_npz(path: str, required: tuple[str, ...]) -> dict[str, np.ndarray]:
    _check_file(path)
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
        raise DataError(f"{path!r} is not a whole npz file ({_brief(error)}); download it again.") from error


READERS = {"d4rl": read_d4rl, "minari": read_minari, "ogbench": read_ogbench}
WRITERS = {"d4rl": write_d4rl, "minari": write_minari}
_EXAMPLES = {"d4rl": "PATH.hdf5", "minari": "NAMESPACE/NAME-v0", "ogbench": "PATH.npz"}
