"""Demonstrations whose frames are drawn anew: which part is the frames, which pixels stay, and a data set again.

A camera is the name of the observations' part that is the frames, or None where the observations are the frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reverie.data import Dataset, Field, Spec
from reverie.data.fields import Space, Tree, describe
from reverie.errors import DataError, ReverieError

MASK = "inpaint"
"""The info [N, H, W] that says which pixels are drawn anew, by 1 and 0."""


def camera_of(space: Space, named: str = "") -> str | None:
    """The camera `named`, or the only one. Raises DataError where there is none or, without a name, several."""
    if isinstance(space, Field):
        if space.kind == "image":
            return None
        raise DataError(f"The observations are {space}; frames to draw anew are images, [steps, H, W, C] of uint8.")
    cameras = [name for name, field in space.items() if field.kind == "image"]
    if not cameras:
        raise DataError(f"The observations are {describe(space)}, and none of them is an image to draw anew.")
    if named and named not in cameras:
        raise DataError(f"The observations have no images {named!r}; name one of {', '.join(cameras)} as image.")
    if not named and len(cameras) > 1:
        raise DataError(
            f"The observations have the images {', '.join(cameras)}; say by image which of them is drawn anew."
        )
    return named or cameras[0]


def frames_of(observations: Tree, camera: str | None) -> Any:
    """`[N, H, W, C]`."""
    return observations if camera is None else observations[camera]


def with_frames(observations: Tree, camera: str | None, frames: Any) -> Tree:
    """The same observations with other frames."""
    return frames if camera is None else {**observations, camera: frames}


def colours(written: Sequence[str]) -> list[tuple[int, ...]]:
    """Of rrggbb. Raises ReverieError for anything else."""
    if any(len(each) != 6 or set(each.lower()) - set("0123456789abcdef") for each in written):
        raise ReverieError(f"keep = {tuple(written)}, but colours are written as rrggbb, such as 4169e1")
    return [tuple(bytes.fromhex(each)) for each in written]


def masks(data: Dataset, frames: np.ndarray, keep: Sequence[str], tolerance: float) -> np.ndarray:
    """Which pixels are drawn anew, bool `[N, H, W]`: those that the data's info `inpaint` says, else those that are of
    none of the colours `keep`.

    Raises DataError where nothing says it, and for an info of another shape or other values.
    """
    if MASK in data.infos:
        given = np.asarray(data.infos[MASK])
        if given.shape != frames.shape[:3] or not np.isin(given, (0, 1)).all():
            raise DataError(
                f"The info {MASK!r} is of {given.dtype} {list(given.shape[1:])} a step, and frames are "
                f"{list(frames.shape[1:3])}; give one number a pixel, 1 to draw it anew and 0 to leave it."
            )
        return given != 0
    if not keep:
        raise DataError(
            f"Nothing says which pixels to draw anew: give the info {MASK!r} [steps, H, W], or the colours of what "
            "stays by keep."
        )
    if frames.shape[-1] != 3:
        raise DataError(
            f"Colours to keep are of 3 channels, and frames have {frames.shape[-1]}; give the info {MASK!r} instead."
        )
    stays = np.zeros(frames.shape[:3], bool)
    for colour in np.array(colours(keep), float):
        low, high = (np.clip(colour + way * tolerance, 0, 255).astype(np.uint8) for way in (-1, 1))
        stays |= ((frames >= low) & (frames <= high)).all(-1)
    return ~stays


def demonstrations(data: Dataset, mask: np.ndarray, known: np.ndarray) -> dict[str, Tree]:
    """The episodes all of whose rows have actions, `known` [N], as `Spec.kept` has them: arguments of
    `Dataset.from_arrays`, and the mask.

    Without next observations, whose frames would have to be drawn too; methods take the next row's. Raises DataError
    where there is no such episode.
    """
    whole = np.flatnonzero([known[first:stop].all() for first, stop in data.episodes])
    if not len(whole):
        raise DataError(
            "No episode of the data has actions (the info 'has_actions' is 0); join the demonstrations to draw anew."
        )
    rows = np.concatenate([np.arange(first, stop) for first, stop in data.episodes[whole]])
    kept = {"observations": data.observations, "actions": data.actions, "timeouts": data.timeouts, MASK: mask}
    kept |= {name: getattr(data, name) for name in ("rewards", "costs", "ends") if getattr(data, name) is not None}
    kept |= {"terminals": data.terminals} if data.terminals_known else {}
    infos = {name: info for name, info in data.infos.items() if name != MASK}
    kept |= {"infos": infos} if infos else {}
    return taken(kept, rows)


def taken(kept: Any, rows: Any) -> Any:
    """The rows `rows` of every array."""
    if isinstance(kept, Mapping):
        return {name: taken(each, rows) for name, each in kept.items()}
    return np.asarray(kept)[rows]


def dataset(kept: Mapping[str, Any], spec: Spec, **attributes: str | bool) -> Dataset:
    """Rows of `demonstrations` as a data set; the last of them ends an episode, if by nothing else then by a cut."""
    arrays = {name: each for name, each in kept.items() if name != MASK}
    ended = arrays.get("terminals", np.zeros(len(arrays["timeouts"]), bool))
    arrays["timeouts"] = arrays["timeouts"] | ((np.arange(len(ended)) == len(ended) - 1) & ~ended)
    bounds: Any = {"action_low": spec.action_low, "action_high": spec.action_high}
    bounds = bounds if bool((spec.action_low < spec.action_high).all()) else {}
    return Dataset.from_arrays(**arrays, **bounds, attributes=attributes)
