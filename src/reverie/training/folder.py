"""A run's folder: config.json, spec, metrics.csv, checkpoints/, and the lock of the process that writes."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reverie.errors import RunError
from reverie.version import __version__

CONFIG = "config.json"
SPEC = "spec"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
REPLAY = "replay"
LOCK = ".lock"
LOGS = "logs"


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of the run in the folder. Raises RunError when there is none, or it cannot be read."""
    try:
        config = json.loads((path / CONFIG).read_text())
        if not isinstance(config, dict) or not {"algorithm", "training", "data"} <= config.keys():
            raise RunError(f"{str(path / CONFIG)!r} is not the configuration of a run; restore it from a copy.")
        return config
    except NotADirectoryError:
        raise RunError(f"{str(path)!r} is a file; give the folder of a run, which can be gone on with.") from None
    except FileNotFoundError:
        raise RunError(f"There is no run in {str(path)!r}: it has no {CONFIG}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{str(path / CONFIG)!r} is not JSON ({error}).") from None


def known_settings(config: dict[str, Any], part: str, cls: type) -> dict[str, Any]:
    """That part of a configuration. Raises RunError for a setting that `cls` lacks: another version wrote it."""
    settings = config[part]
    if unknown := settings.keys() - {field.name for field in dataclasses.fields(cls)}:
        raise RunError(
            f"The run was written by reverie {config['versions']['reverie']}, where {part} had a setting "
            f"{min(unknown)!r} that it lacks in {__version__}: use that version, or train again."
        )
    return settings


def flat(config: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting, its name as a path: "algorithm.batch_size"."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write config.json, whole or not at all."""
    fresh = path / f"{CONFIG}.tmp"
    fresh.write_text(json.dumps(config, indent=2, default=lambda number: number.item()) + "\n")
    os.replace(fresh, path / CONFIG)


def holds_run(path: Path) -> bool:
    """Whether there is something to lose: a configuration and a complete checkpoint."""
    return (path / CONFIG).exists() and any(entry.name.isdigit() for entry in path.glob(f"{CHECKPOINTS}/*"))


def check_vacant(path: Path) -> None:
    """Raise RunError when the folder has files that are not of a run that died before its first checkpoint."""
    ours = {LOCK, CONFIG, f"{CONFIG}.tmp", f"{SPEC}.json", f"{SPEC}.npz", METRICS, CHECKPOINTS, REPLAY, LOGS}
    for entry in sorted(path.iterdir()) if path.is_dir() else []:
        if entry.name not in ours and not entry.name.startswith(f"{SPEC}."):
            raise RunError(
                f"{str(path)!r} is not empty (it has {entry.name!r}) and holds no run; give an empty folder."
            )


def goes_on(path: Path, resume: bool) -> bool:
    """Whether the folder holds a run, which is to be gone on with. Raises RunError where it holds one that is not, or
    something else."""
    if not holds_run(path):
        check_vacant(path)
        return False
    if not resume:
        raise RunError(
            f"{str(path)!r} already holds a run; go on with it by resume=True (--resume), or give another folder."
        )
    return True


def check_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise RunError for the first setting on which the result depends and that is another one now."""
    if old["data"]["fingerprint"] != new["data"]["fingerprint"]:
        raise RunError(
            f"The run in {str(path)!r} was trained on other data ({old['data']['steps']} steps, fingerprint "
            f"{old['data']['fingerprint'][:12]}) than these ({new['data']['steps']} steps, "
            f"{new['data']['fingerprint'][:12]}); give the same data or another folder."
        )
    keys = ("segment", "seeds_by", "block_rows", "block_updates")
    before, after = ({**each["algorithm"], **{key: each["training"].get(key) for key in keys}} for each in (old, new))
    before["seeds"], after["seeds"] = list(old["training"]["seeds"]), list(new["training"]["seeds"])
    for key in before | after:
        if before.get(key) != after.get(key):
            written = old["versions"]["reverie"]
            version = f" (it was written by reverie {written})" if written != __version__ else ""
            raise RunError(
                f"The run in {str(path)!r} has {key}={before.get(key)!r} and not {after.get(key)!r}{version}; resume "
                "it with the same configuration or give another folder."
            )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder, which is made if need be. The end of the process lets go of it, however it ends.

    Raises RunError when another process holds it, or when it cannot be made.
    """
    from filelock import FileLock, Timeout

    try:
        path.mkdir(parents=True, exist_ok=True)
        held = FileLock(path / LOCK, timeout=0)
        held.acquire()
    except Timeout:
        raise RunError(f"Another process is training in {str(path)!r}; wait for it or give another folder.") from None
    except OSError as error:
        raise RunError(f"The folder {str(path)!r} cannot be written to: {error.strerror}.") from None
    try:
        yield
    finally:
        held.release()


class Checkpoints:
    """States of a run as orbax files, the newest `keep` of them; a save is there in whole or not at all.

    Only the list of the leaves is stored, so that no class of ours is in a file.
    """

    def __init__(self, path: Path, keep: int = 2, *, write: bool = False):
        import orbax.checkpoint as ocp

        # It reports every save at level INFO and each folder it only reads as a warning.
        logging.getLogger("absl").setLevel(logging.ERROR)
        self._ocp = ocp
        # Of several processes that train together one writes, and each reads by itself.
        if write:
            (path / CHECKPOINTS).mkdir(exist_ok=True)
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=str(me)
        )
        self._manager = ocp.CheckpointManager(
            path.absolute() / CHECKPOINTS,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                create=False,
                cleanup_tmp_directories=write,
                enable_async_checkpointing=False,
                multiprocessing_options=alone,
            ),
        )

    def latest(self) -> int | None:
        self._manager.reload()  # another process may have written since
        return self._manager.latest_step()

    def save(self, step: int, states: Any) -> None:
        leaves = [np.asarray(leaf) for leaf in jax.device_get(jax.tree.leaves(states))]
        self._manager.save(step, args=self._ocp.args.PyTreeSave(leaves), force=True)

    def restore(self, step: int, like: Any) -> Any:
        """The states of that step on the host, in the structure, shapes and types of `like`.

        Raises RunError when the file's are others.
        """
        shapes, structure = jax.tree.flatten(like)
        blank = [np.empty(leaf.shape, leaf.dtype) for leaf in shapes]
        as_numpy = [self._ocp.RestoreArgs(restore_type=np.ndarray)] * len(blank)
        restore = self._ocp.args.PyTreeRestore(item=blank, restore_args=as_numpy)
        try:
            leaves = self._manager.restore(step, args=restore)
        except (ValueError, KeyError, FileNotFoundError) as error:
            raise RunError(f"Checkpoint {step} cannot be read: {str(error).splitlines()[0]}") from None
        for leaf, shape in zip(leaves, shapes, strict=True):
            if leaf.shape != shape.shape or leaf.dtype != shape.dtype:
                raise RunError(
                    f"Checkpoint {step} holds an array {leaf.dtype}{list(leaf.shape)} where the algorithm has "
                    f"{shape.dtype}{list(shape.shape)}: it was written by another version of it."
                )
        return jax.tree.unflatten(structure, leaves)

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def forget_after(self, step: int) -> None:
        for newer in [each for each in self.steps() if each > step]:
            self._manager.delete(newer)

    def close(self) -> None:
        self._manager.close()
