"""Reads folders of shards: all of one, or some files of it. See `shard_layout`."""

import hashlib
import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from reverie.data.dataset import Dataset
from reverie.data.fields import unflatten
from reverie.data.schemes import brief, imported
from reverie.data.shard_layout import AGAIN, HEADER, Column, Header, file_of, read_header, schema
from reverie.errors import DAMAGE, DataError


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
        return {name: _array(table.column(name), column, shard.rows) for name, column in header.columns.items()}
    except DataError:
        raise
    except (*DAMAGE, MemoryError) as error:
        raise DataError(f"{str(path)!r} is no whole parquet file ({brief(error)}); {AGAIN}.") from error


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


def read_parquet_folder(folder: str) -> Dataset:
    """All of a folder, in memory. Raises DataError where it is none of a data set, or is damaged."""
    header = read_header(folder)
    return read_shards(header, range(len(header.shards)))
