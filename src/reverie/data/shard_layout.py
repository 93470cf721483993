"""A data set in a folder: parquet files of whole episodes (shards), and `dataset.json`, which says what they hold.

Columns are named as `Dataset.arrays` names them. A number a step is a column of numbers, images are one of bytes, and
everything else one of lists of a fixed length.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reverie.data.checking import Attribute
from reverie.data.fields import Space, space_of, unflatten
from reverie.data.moments import Moments
from reverie.data.schemes import PER_STEP, imported
from reverie.errors import DataError, undamaged

HEADER, VERSION = "dataset.json", 1
LONGEST_HEADER = 256 * 2**20
TYPES = ("float32", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
AGAIN = "write the folder again, or restore it from a copy"


class Column(NamedTuple):
    """Shape of one step, and type."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Of one step."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def arrow(self) -> Any:
        """Its type in a file."""
        arrow = imported("pyarrow", "parquet")
        if not self.shape:
            return arrow.from_numpy_dtype(np.dtype(self.dtype))
        if self.dtype == "uint8":  # as a number each would take four bytes
            return arrow.binary(self.nbytes)
        number = arrow.field("element", arrow.from_numpy_dtype(np.dtype(self.dtype)), nullable=False)
        return arrow.list_(number, math.prod(self.shape))


class Shard(NamedTuple):
    rows: int
    episodes: int
    size: int
    """Bytes of the file."""
    sha256: str


@dataclass(frozen=True)
class Header:
    """What `dataset.json` says."""

    folder: Path
    columns: Mapping[str, Column]
    shards: Sequence[Shard]
    action_low: Any
    action_high: Any
    terminals_known: bool
    attributes: Mapping[str, Attribute]
    moments: Mapping[str, Moments]
    """Of all rows, by column; of those that are normalised."""
    extremes: Sequence[tuple[int, int]]
    """Shard and number in it, of the longest episode and of those with the least and largest sums of rewards, costs."""

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)

    @property
    def row_bytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all files' own and of what they hold (hex)."""
        digest = hashlib.sha256(repr([sorted(self.columns.items()), self.action_low, self.action_high]).encode())
        for shard in self.shards:
            digest.update(shard.sha256.encode())
        return digest.hexdigest()

    def space(self, key: str) -> Space:
        """Of `"observations"` or `"actions"`."""
        blank = {name: np.empty((0, *shape), dtype) for name, (shape, dtype) in self.columns.items()}
        return space_of(unflatten({name: x for name, x in blank.items() if name.partition("/")[0] == key})[key])


def file_of(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.parquet"


def read_header(folder: str) -> Header:
    """Raises DataError where the folder is none of a data set, or what is in it is damaged."""
    place = Path(folder).expanduser()
    path = place / HEADER
    if not path.is_file():
        raise DataError(
            f"There is no whole data set in {folder!r} (no {HEADER}, which is written last); give a folder that "
            "`data.save` or a ShardWriter has finished."
        )
    with undamaged(repr(str(path)), DataError):
        if path.stat().st_size > LONGEST_HEADER:
            raise DataError(f"{str(path)!r} has {path.stat().st_size} bytes, more than any list of shards; {AGAIN}.")
        said = json.loads(path.read_text())
        if said["version"] != VERSION:
            raise DataError(f"{str(path)!r} is of version {said['version']!r} where {VERSION} is known; {AGAIN}.")
        header = Header(
            folder=place,
            columns={name: _column(name, *each) for name, each in said["columns"].items()},
            shards=[_shard(*each) for each in said["shards"]],
            action_low=said["action_low"],
            action_high=said["action_high"],
            terminals_known=bool(said["terminals_known"]),
            attributes=dict(said["attributes"]),
            moments={name: Moments.of_plain(each) for name, each in said["moments"].items()},
            extremes=[(int(shard), int(episode)) for shard, episode in said["extremes"]],
        )
        _check(header, path)
    return header


def _column(name: str, shape: Sequence[Any], dtype: str) -> Column:
    if dtype not in TYPES:
        raise DataError(f"The column {name!r} is of type {dtype!r} where numbers are known; {AGAIN}.")
    return Column(tuple(map(_count, shape)), dtype)


def _shard(rows: Any, episodes: Any, size: Any, sha256: Any) -> Shard:
    return Shard(_count(rows), _count(episodes), _count(size), str(sha256))


def _count(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**48:
        raise ValueError(f"{value!r} is no count")
    return value


def _check(header: Header, path: Path) -> None:
    known = {name.partition("/")[0] for name in header.columns}
    if not header.shards or not {"actions", "observations", "timeouts"} <= known <= {*PER_STEP, "infos"}:
        raise DataError(f"{str(path)!r} lists no shards of observations, actions and timeouts; {AGAIN}.")
    for shard, episode in header.extremes:
        if not (0 <= shard < len(header.shards) and 0 <= episode < header.shards[shard].episodes):
            raise DataError(
                f"{str(path)!r} tells of an episode {episode} of shard {shard}, which is not there; {AGAIN}."
            )
    for name, moments in {"actions": None, **header.moments}.items():
        if (
            name not in header.columns
            or moments is None
            or moments.low.shape != (header.columns[name].shape[-1:] or (1,))
        ):
            raise DataError(f"{str(path)!r} has no statistics of {name!r}, or others than of its columns; {AGAIN}.")


def schema(columns: Mapping[str, Column]) -> Any:
    """The files' own."""
    arrow = imported("pyarrow", "parquet")
    return arrow.schema([arrow.field(name, column.arrow(), nullable=False) for name, column in columns.items()])
