"""An HDF5 file of transitions that is appended to, and that a kill leaves valid up to the last piece appended."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from reverie.data.checking import Attribute
from reverie.data.dataset import Dataset
from reverie.data.fields import Field, describe
from reverie.data.schemes import BOUNDS
from reverie.data.spec import Spec
from reverie.errors import DataError
from reverie.paths import replacing

WRITTEN = "rows_written"
Layout = Mapping[str, tuple[tuple[int, ...], Any]]


class AppendableHDF5:
    """`rows` transitions in D4RL's layout. Until the last is written they lie in `PATH.part`, beside the target.

    The whole file is laid out when it is begun. From then on nothing of its structure changes: a piece's rows are
    filled in and then the number of rows written, so that what counts as written is so, however the process ends.

    A part that is there already is gone on with: `written` tells from where. Raises DataError where it was begun for
    other `attributes` (what the rows are a function of) or is in use, where the disk lacks the room, and where
    observations or actions are not vectors.
    """

    def __init__(
        self,
        path: str,
        spec: Spec,
        rows: int,
        attributes: Mapping[str, Attribute],
        infos: Mapping[str, Any] | None = None,
    ):
        """`infos` are the types of infos, a number a row, by their names."""
        self.target = Path(path).expanduser()
        self.part = self.target.with_name(self.target.name + ".part")
        self.rows, self.attributes = rows, {**attributes, "rows": rows}
        self._check_vectors(spec)
        self.layout = layout = _layout(spec, rows, infos or {})
        if not self.part.exists():
            self._check_room(layout, rows)
            self._begin(layout, spec)
        self.file = self._opened()
        try:
            self._check_same()
            self.written = int(self.file[WRITTEN][()])
            self._check_room(layout, rows - self.written)
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def append(self, piece: Dataset) -> None:
        """Fill in the next rows. Raises DataError where that fails, and where the piece has other arrays than the file
        (infos or costs more, or rewards or next observations less); the rows before stay."""
        stop, arrays = self.written + len(piece), self._same_arrays(piece)
        try:
            for key, array in arrays.items():
                self.file[key][self.written : stop] = array
            self.file.flush()
            self.file[WRITTEN][()] = stop
            self.file.flush()
        except OSError as error:
            raise DataError(
                f"{str(self.part)!r} cannot be written to ({error}); it holds {self.written} rows, from which the same "
                "command goes on."
            ) from error
        self.written = stop

    def _same_arrays(self, piece: Dataset) -> dict[str, np.ndarray]:
        """Of the piece, those of the file, which has the actions' bounds as attributes."""
        arrays = {key: array for key, array in piece.arrays().items() if key not in BOUNDS}
        wanted = self.layout.keys()
        for other, word in ((arrays.keys() - wanted, "has"), (wanted - arrays.keys(), "lacks")):
            if other:
                raise DataError(
                    f"The next rows of {str(self.target)!r} cannot be appended: their data {word} {min(other)!r}, and "
                    f"row by row exactly {', '.join(sorted(wanted))} are written; make the rows in memory and save "
                    "them."
                )
        return arrays

    def finish(self) -> None:
        """Give the file its name. Every row must have been written."""
        self.file.close()
        self.part.replace(self.target)

    def _begin(self, layout: Layout, spec: Spec) -> None:
        import h5py

        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        with replacing(str(self.part)) as unfinished, h5py.File(unfinished, "w") as file:
            for key, (shape, kind) in {**layout, WRITTEN: ((), np.int64)}.items():
                file.create_dataset(key, shape, kind, dcpl=properties)
            file[WRITTEN][()] = 0
            for key, value in self.attributes.items():
                file.attrs[key] = value
            if bool(np.all(spec.action_low < spec.action_high)):
                file.attrs["action_low"], file.attrs["action_high"] = spec.action_low, spec.action_high

    def _opened(self) -> Any:
        import h5py

        try:
            return h5py.File(self.part, "r+")
        except OSError as error:
            if "lock" in str(error):
                raise DataError(f"Another process is writing {str(self.part)!r}; wait for it.") from error
            raise DataError(
                f"{str(self.part)!r} is no part of a data set ({error}); delete it to begin anew."
            ) from error

    def _check_same(self) -> None:
        for key, value in self.attributes.items():
            before = self.file.attrs.get(key)
            if not np.array_equal(before, value):
                raise DataError(
                    f"{str(self.part)!r} was begun with {key} = {_brief(before)} and not {_brief(value)}; finish it "
                    "with the command that began it, delete it, or write to another file."
                )

    def _check_vectors(self, spec: Spec) -> None:
        for what, space in (("observations", spec.observation_space), ("actions", spec.action)):
            if not (isinstance(space, Field) and space.kind == "vector"):
                raise DataError(
                    f"{str(self.target)!r} cannot be written row by row, since its {what} would be {describe(space)}; "
                    "only vectors are: make the rows in memory and save them."
                )

    def _check_room(self, layout: Layout, rows: int) -> None:
        size = _row_bytes(layout)
        free = shutil.disk_usage(self.target.absolute().parent).free
        if rows * size > free:
            raise DataError(
                f"{rows} rows take {_size(rows * size)} in {str(self.part)!r}, and its disk has "
                f"{_size(free)} left; ask for at most {free // size} rows or choose another place."
            )


def _layout(spec: Spec, rows: int, infos: Mapping[str, Any]) -> Layout:
    """Shape and type of every array of `rows` transitions."""
    observed, acted = (rows, spec.observation_dim), (rows, spec.action_dim)
    return {
        "observations": (observed, np.float32),
        "actions": (acted, np.float32),
        "next_observations": (observed, np.float32),
        "rewards": ((rows,), np.float32),
        "terminals": ((rows,), np.bool_),
        "timeouts": ((rows,), np.bool_),
        **{f"infos/{name}": ((rows,), kind) for name, kind in infos.items()},
    }


def _row_bytes(layout: Layout) -> int:
    return sum(math.prod(shape[1:]) * np.dtype(kind).itemsize for shape, kind in layout.values())


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def _brief(value: Any) -> str:
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) < 60 else text[:57] + "..."
