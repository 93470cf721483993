"""A data set in a folder: parquet files of whole episodes (shards), and `dataset.json`, which says what they hold.

Columns are named as `Dataset.arrays` names them. A number a step is a column of numbers, images are one of bytes, and
everything else one of lists of a fixed length.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reverie.data.checking import Attribute
from reverie.data.dataset import Dataset
from reverie.data.fields import Space, space_of, unflatten
from reverie.data.moments import Moments
from reverie.data.schemes import PER_STEP, brief, imported
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


def read_shards(header: Header, numbers: Iterable[int]) -> Dataset:
    """These shards as one data set, in this order. Raises DataError where a file is missing or is not what the header
    says, before its rows are read, and where they would take more memory than the machine has."""
    numbers = list(numbers)
    rows = sum(header.shards[number].rows for number in numbers)
    _check_memory(header, rows)
    arrays = {name: np.empty((rows, *shape), dtype) for name, (shape, dtype) in header.columns.items()}
    start = 0
    for number in numbers:
        stop = start + header.shards[number].rows
        for name, array in _read(header, number).items():
            arrays[name][start:stop] = array
        start = stop
    infos = {name.partition("/")[2]: arrays.pop(name) for name in list(arrays) if name.startswith("infos/")}
    if not header.terminals_known:
        arrays.pop("terminals", None)
    return Dataset.from_arrays(
        **unflatten(arrays),
        infos=infos,
        action_low=header.action_low,
        action_high=header.action_high,
        attributes={**header.attributes, "source": f"parquet:{header.folder}"},
    )


def _check_memory(header: Header, rows: int) -> None:
    needed, there = rows * header.row_bytes, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise DataError(
            f"{str(header.folder)!r} would take {needed / 1e9:.3g} GB of memory, of {there / 1e9:.3g}; train on it "
            "with --stream, or with fewer --block-rows."
        )


def _read(header: Header, number: int) -> dict[str, np.ndarray]:
    """The columns of one file `[rows, ...]`, by name. What the file is, is looked at before any is decoded."""
    shard, path = header.shards[number], file_of(header.folder, number)
    arrow, parquet = imported("pyarrow", "parquet"), imported("pyarrow.parquet", "parquet")
    if not path.is_file():
        raise DataError(f"There is no file {str(path)!r}, which {HEADER} lists; {AGAIN}.")
    size = path.stat().st_size
    content = path.read_bytes() if size == shard.size else b""
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(
            f"{str(path)!r} is damaged ({size} bytes of {shard.size}, or others than were written); {AGAIN}."
        )
    try:
        file = parquet.ParquetFile(arrow.BufferReader(content))
        needed = shard.rows * header.row_bytes
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        # Lists have lengths beside their numbers.
        if file.metadata.num_rows != shard.rows or sum(each.total_byte_size for each in groups) > 3 * needed + 2**20:
            raise DataError(
                f"{str(path)!r} has {file.metadata.num_rows} rows where {HEADER} says {shard.rows}, or is larger than "
                f"these are; {AGAIN}."
            )
        if not file.schema_arrow.equals(schema(header.columns)):
            raise DataError(
                f"{str(path)!r} has the columns {_named(file.schema_arrow)} where {HEADER} says "
                f"{_named(schema(header.columns))}; {AGAIN}."
            )
        table = file.read(use_threads=False)
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r} is no whole parquet file ({brief(error)}); {AGAIN}.") from error
    return {name: _array(table.column(name), column, shard.rows) for name, column in header.columns.items()}


def _named(schema: Any) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _array(stored: Any, column: Column, rows: int) -> np.ndarray:
    parts = []
    for chunk in stored.chunks:
        if not column.shape:
            parts.append(chunk.to_numpy(zero_copy_only=False))
        elif column.dtype == "uint8":
            at = chunk.offset * column.nbytes
            parts.append(np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * column.nbytes, at))
        else:
            parts.append(chunk.flatten().to_numpy(zero_copy_only=False))
    return np.concatenate(parts).reshape(rows, *column.shape)


def schema(columns: Mapping[str, Column]) -> Any:
    """The files' own."""
    arrow = imported("pyarrow", "parquet")
    return arrow.schema([arrow.field(name, column.arrow(), nullable=False) for name, column in columns.items()])


def read_parquet_folder(folder: str) -> Dataset:
    """All of a folder, in memory. Raises DataError where it is none of a data set, or is damaged."""
    header = read_header(folder)
    return read_shards(header, range(len(header.shards)))
