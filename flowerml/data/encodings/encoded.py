"""The encodings that networks are trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from flowerml.core.errors import DataError
from flowerml.core.files import read_version
from flowerml.data import parts
from flowerml.data.encodings.layout import COUNT
from flowerml.data.encodings.rows import RowValues, Vectors


@dataclass(frozen=True)
class Encoded:
    """The encodings of the train and valid splits. `table` has id, split, label and the encoder's columns."""

    table: pa.Table

    @classmethod
    def read(cls, path: Path) -> "Encoded":
        """Map the file, or the files of a folder, into memory; pages are read when they are used.

        Raises DataError where a part is missing.
        """
        return cls(read_version(path, lambda: _read(path)) if path.is_dir() else _map(path))

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the labels of the training split, sorted: the order of a classifier's outputs."""
        return tuple(sorted(pa.compute.unique(self.of("train", "label")).to_pylist()))

    def of(self, split: str, column: str) -> pa.ChunkedArray:
        """Return one column of the rows of a split, as a copy; lists are better read with `row_values`."""
        rows = pa.compute.equal(self.table.column("split"), split)
        return self.table.column(column).filter(rows)

    def row_values(self, split: str | None, column: str) -> RowValues:
        """Return a column of the rows of a split, or of all, of which each is read from the file when asked for."""
        return RowValues.of(self.table, split, column)

    def vectors(self, split: str, column: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return all vectors of a column of N rows of a split, [M, D], and the offsets of each row's, [N + 1]."""
        rows = self.row_values(split, column)
        return rows.flat(), rows.offsets

    def vectors_to_train_on(self, column: str) -> dict[str, tuple[NDArray[Any] | Vectors, NDArray[np.int64]]]:
        """Return the same for both splits; where one has more than IN_MEMORY bytes, the vectors stay on the disk."""
        splits = {split: self.row_values(split, column) for split in ("train", "valid")}
        large = any(rows.is_large for rows in splits.values())
        return {split: (rows.vectors() if large else rows.flat(), rows.offsets) for split, rows in splits.items()}

    def targets(self, split: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the class index of each row of a split, [N]."""
        index = {label: number for number, label in enumerate(classes)}
        return np.array([index[label] for label in self.of(split, "label").to_pylist()], dtype=np.int64)


def _map(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _read(folder: Path) -> pa.Table:
    files = parts.files_of(folder)
    tables = [_map(file) for file in files]
    count = int((tables[0].schema.metadata or {}).get(COUNT, b"1"))
    if len(files) < count:
        name = parts.part_name(len(files), ".arrow")
        raise DataError(f"{folder}: expected {count:,} parts, found no {name}; run `encode` again")
    return pa.concat_tables(tables)
