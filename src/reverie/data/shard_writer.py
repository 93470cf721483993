"""Writes a folder of shards, a part of a data set at a time, so that the whole need never be in memory."""

import hashlib
import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from reverie.data import joining
from reverie.data.checking import Attribute
from reverie.data.moments import Moments
from reverie.data.schemes import BOUNDS, imported
from reverie.data.shard_layout import HEADER, VERSION, Column, Shard, file_of, schema
from reverie.errors import DataError
from reverie.paths import replacing

if TYPE_CHECKING:
    from reverie.data.dataset import Dataset

SHARD_BYTES = 4 * 2**20
"""Of the rows in a file, about: a block of a stream has many, so that it has rows of many episodes."""
Arrays = dict[str, np.ndarray]


class ShardWriter:
    """A folder that is filled by `append`; `finish`, or the end of a `with` block, makes it a data set.

        with ShardWriter("runs/all") as writer:
            for name in names:
                writer.append(reverie.load_dataset(f"d4rl:{name}"))

    Until then it is none: a writing that was cut off is begun anew, in another folder. Raises DataError for a folder
    that exists and is not empty.
    """

    def __init__(self, folder: str, attributes: Mapping[str, Attribute] | None = None, shard_rows: int | None = None):
        """attributes: in place of those of the first data appended.
        shard_rows: at least so many in a file; as many as take 4 MB if not given."""
        self.folder, self.attributes, self.shard_rows = Path(folder).expanduser(), attributes, shard_rows
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise DataError(f"{folder!r} exists already and is not empty; give another name.")
        imported("pyarrow.parquet", "parquet")
        self.first: Any = None
        self.shards: list[Shard] = []
        self.moments: dict[str, Moments] = {}
        self.extremes: dict[str, tuple[float, int, int]] = {}
        self.waiting: list[Arrays] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self.finish()

    def append(self, data: "Dataset") -> None:
        """Whole episodes. Raises DataError where they have other arrays, bounds or terminals than those before."""
        arrays = _arrays(data)
        if self.first is None:
            self.first = data.take_episodes([0])
            self.columns = {name: Column(x.shape[1:], x.dtype.name) for name, x in arrays.items()}
            row = sum(column.nbytes for column in self.columns.values())
            self.shard_rows = self.shard_rows or math.ceil(SHARD_BYTES / row)
        self._check_same(data, arrays)
        stops, start, most = data.episodes[:, 1], 0, self.shard_rows or 1
        last = len(stops) - 1
        while start < len(data):
            wanted = start + most - self._waiting()
            stop = int(stops[min(int(np.searchsorted(stops, wanted)), last)])
            self.waiting.append({name: x[start:stop] for name, x in arrays.items()})
            start = stop
            if self._waiting() >= most:
                self._write()

    def finish(self) -> None:
        """Write what is left, and the header. Raises DataError where nothing was appended."""
        if self.first is None:
            raise DataError(f"Nothing was appended to {str(self.folder)!r}; append at least one data set.")
        if self.waiting:
            self._write()
        said = {
            "version": VERSION,
            "columns": self.columns,
            "shards": self.shards,
            **{key: None if (low := getattr(self.first, key)) is None else low.tolist() for key in BOUNDS},
            "terminals_known": self.first.terminals_known,
            "attributes": dict(self.first.attributes if self.attributes is None else self.attributes),
            "moments": {name: moments.plain() for name, moments in self.moments.items()},
            "extremes": [found[1:] for found in self.extremes.values()],
        }
        with replacing(str(self.folder / HEADER)) as unfinished:
            unfinished.write_text(json.dumps(said) + "\n")

    def _waiting(self) -> int:
        return sum(len(piece["actions"]) for piece in self.waiting)

    def _check_same(self, data: "Dataset", arrays: Arrays) -> None:
        first: Any = self.first
        joining.check_alike(first, data)
        columns = {name: Column(x.shape[1:], x.dtype.name) for name, x in arrays.items()}
        same = data.terminals_known == first.terminals_known
        same &= all(np.array_equal(getattr(data, key), getattr(first, key)) for key in BOUNDS)
        if columns != self.columns or not same:
            raise DataError(
                f"The next rows of {str(self.folder)!r} have {_told(data, columns)}, and those before "
                f"{_told(first, self.columns)}; bring all to the same arrays and bounds."
            )

    def _write(self) -> None:
        arrays = {name: np.concatenate([piece[name] for piece in self.waiting]) for name in self.columns}
        self.waiting = []
        for name, x in arrays.items():
            if x.dtype.kind in "fb" and x.ndim < 4:
                moments, before = Moments.of(x), self.moments.get(name)
                self.moments[name] = moments if before is None else before.merged(moments)
        last = arrays["ends"] if "ends" in arrays else arrays["timeouts"] | arrays["terminals"]
        starts = np.append(0, np.flatnonzero(last)[:-1] + 1)
        self._note_extremes(arrays, starts)
        content = _parquet(arrays, self.columns)
        with replacing(str(file_of(self.folder, len(self.shards)))) as unfinished:
            unfinished.write_bytes(content)
        rows, digest = len(last), hashlib.sha256(content).hexdigest()
        self.shards.append(Shard(rows, len(starts), len(content), digest))

    def _note_extremes(self, arrays: Arrays, starts: np.ndarray) -> None:
        sums = {"length": np.diff(np.append(starts, len(arrays["actions"]))).astype(np.float64)}
        for name in ("rewards", "costs"):
            if name in arrays:
                found = np.add.reduceat(arrays[name].astype(np.float64), starts)
                sums |= {f"high {name}": found, f"low {name}": -found}
        for name, values in sums.items():
            episode = int(np.argmax(values))
            if name not in self.extremes or values[episode] > self.extremes[name][0]:
                self.extremes[name] = float(values[episode]), len(self.shards), episode


def _arrays(data: "Dataset") -> Arrays:
    return {name: x for name, x in data.arrays().items() if name not in BOUNDS}


def _told(data: "Dataset", columns: Mapping[str, Column]) -> str:
    arrays = ", ".join(f"{name} {column.dtype}{list(column.shape)}" for name, column in columns.items())
    bounds = "no bounds" if data.action_low is None else f"bounds {data.action_low.tolist()}"
    return f"{arrays} with {bounds} and {'' if data.terminals_known else 'un'}known terminals"


def _parquet(arrays: Arrays, columns: Mapping[str, Column]) -> bytes:
    arrow, parquet = imported("pyarrow", "parquet"), imported("pyarrow.parquet", "parquet")

    def stored(x: np.ndarray, column: Column) -> Any:
        kind, flat = column.arrow(), np.ascontiguousarray(x).reshape(-1)
        if not column.shape:
            return arrow.array(flat)
        if column.dtype == "uint8":
            return arrow.FixedSizeBinaryArray.from_buffers(kind, len(x), [None, arrow.py_buffer(flat)])
        return arrow.FixedSizeListArray.from_arrays(arrow.array(flat), type=kind)

    table = arrow.table([stored(arrays[name], column) for name, column in columns.items()], schema=schema(columns))
    sink = BytesIO()
    parquet.write_table(table, sink, compression="lz4", use_dictionary=False, write_statistics=False)
    return sink.getvalue()
