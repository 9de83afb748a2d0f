"""The cached encodings: an Arrow file that is written as a stream and read through a memory map."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from flowerml.examples import Key
from flowerml.files import replacing
from flowerml.parallel import batches

ROWS_PER_BATCH = 256


def write(path: Path, rows: Iterable[tuple[Key, dict[str, Any]]], *, columns: dict[str, pa.DataType]) -> None:
    """Write each example's id, split and label beside its encoding; a few hundred rows at a time in memory."""
    schema = pa.schema({"id": pa.string(), "split": pa.string(), "label": pa.string(), **columns})
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as file,
    ):
        for group in batches(rows, ROWS_PER_BATCH):
            names = {name: [getattr(key, name) for key, _ in group] for name in ("id", "split", "label")}
            values = {key: _array([row[key] for _, row in group], kind) for key, kind in columns.items()}
            file.write_batch(pa.RecordBatch.from_pydict({**names, **values}, schema=schema))


@dataclass(frozen=True)
class Encoded:
    """The encodings of the train and valid splits. `table` has id, split, label and the encoder's columns."""

    table: pa.Table

    @classmethod
    def read(cls, path: Path) -> "Encoded":
        """Map the file into memory; pages are read when they are used."""
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels of the training split, sorted: the order of a classifier's outputs."""
        return tuple(sorted(set(self.of("train", "label").to_pylist())))

    def of(self, split: str, column: str) -> pa.Array:
        """One column of the rows of a split."""
        rows = pa.compute.equal(self.table.column("split"), split)
        return self.table.column(column).filter(rows).combine_chunks()

    def targets(self, split: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
        """The class index of each row of a split, [N]."""
        index = {label: number for number, label in enumerate(classes)}
        return np.array([index[label] for label in self.of(split, "label").to_pylist()], dtype=np.int64)


def _array(values: list[NDArray[Any]], kind: pa.DataType) -> pa.Array:
    """Ragged NumPy rows ([n] or [n, D]) as one Arrow list array, without going through Python numbers."""
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in values])]).astype(np.int32)
    flat = pa.array(np.concatenate(values).reshape(-1))
    inner = kind.value_type
    content = pa.FixedSizeListArray.from_arrays(flat, type=inner) if pa.types.is_fixed_size_list(inner) else flat
    return pa.ListArray.from_arrays(pa.array(offsets), content, type=kind)
