"""The cached encodings: an Arrow file, written as a stream and read through a memory map."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from flowerml.core.files import replacing
from flowerml.data.examples import Key

# The size of a record batch, which is what is in memory while writing.
ROWS = 256
BYTES = 16 * 2**20

FINGERPRINTS, PARTS = b"fingerprints", b"parts"

Row = dict[str, NDArray[Any]]
Columns = Mapping[str, pa.DataType]


def write(
    path: Path,
    rows: Iterable[tuple[Key, Row]],
    *,
    columns: Columns,
    fingerprints: Mapping[str, str] | None = None,
    parts: Mapping[str, str] | None = None,
) -> None:
    """Write the key, the encoding and a checksum of each example, a few hundred at a time.

    `fingerprints` hold, for each split, a hash of everything but the digests that its encodings depend on. `parts` hold
    such a hash for columns that depend on less than the others, and are the same in all splits.
    """
    facts = {FINGERPRINTS: fingerprints or {}, PARTS: parts or {}}
    schema = _schema(columns).with_metadata({name: json.dumps(fact, sort_keys=True) for name, fact in facts.items()})
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as file,
    ):
        for group in _groups(rows):
            keys = {name: [getattr(key, name) for key, _ in group] for name in Key.__slots__}
            values = {name: _array([row[name] for _, row in group], kind) for name, kind in columns.items()}
            checks = [_checksum(key, row) for key, row in group]
            file.write_batch(pa.RecordBatch.from_pydict({**keys, **values, "checksum": checks}, schema=schema))


class EncodingCache:
    """The rows of an earlier file of encodings whose fingerprints are still valid, by the digest of their example.

    It is empty where the file is missing, damaged or of another format. Memory: four record batches, and an index of a
    few words a row.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Columns,
        fingerprints: Mapping[str, str],
        parts: Mapping[str, str] | None = None,
    ) -> None:
        self._fingerprints = fingerprints
        self._parts: tuple[str, ...] = ()
        self._index: dict[tuple[str, str], tuple[int, int]] = {}
        self._by_digest: dict[str, tuple[int, int]] = {}
        self._batch = lru_cache(4)(lambda number: _open(path).get_batch(number))
        try:
            schema, batches = _open(path).schema, _open(path).num_record_batches
            if schema.equals(_schema(columns)):
                self._parts = _equal_parts(json.loads(schema.metadata.get(PARTS, b"{}")), parts or {})
                self._read_index(json.loads(schema.metadata[FINGERPRINTS]), batches)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            self._index, self._by_digest = {}, {}

    def __contains__(self, key: Key) -> bool:
        return self._index_key(key) in self._index

    def __getitem__(self, key: Key) -> Row:
        """Return the encoding of an example; raises KeyError where there is none."""
        number, row = self._index[self._index_key(key)]
        return _values(self._batch(number), row)

    def part(self, digest: str) -> Row:
        """Return the columns of the content with this digest that are still valid, also where its row is not."""
        if not self._parts or digest not in self._by_digest:
            return {}
        number, row = self._by_digest[digest]
        values = _values(self._batch(number), row)
        return {name: values[name] for name in self._parts}

    def _index_key(self, key: Key) -> tuple[str, str]:
        return self._fingerprints[key.split], key.digest

    def _read_index(self, fingerprints: Mapping[str, str], batches: int) -> None:
        for number in range(batches):
            batch = self._batch(number)
            batch.validate(full=True)
            columns = (batch.column(name).to_pylist() for name in (*Key.__slots__, "checksum"))
            for row, (*fields, checksum) in enumerate(zip(*columns, strict=True)):
                key = Key(*fields)
                if checksum == _checksum(key, _values(batch, row)):
                    self._index[fingerprints[key.split], key.digest] = number, row
                    self._by_digest[key.digest] = number, row


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
        """Return the labels of the training split, sorted: the order of a classifier's outputs."""
        return tuple(sorted(set(self.of("train", "label").to_pylist())))

    def of(self, split: str, column: str) -> pa.Array:
        """Return one column of the rows of a split."""
        rows = pa.compute.equal(self.table.column("split"), split)
        return self.table.column(column).filter(rows).combine_chunks()

    def row_values(self, split: str, column: str) -> "RowValues":
        """Return a column of the rows of a split, of which each is read from the file when it is asked for."""
        return RowValues.of(self.table, split, column)

    def vectors(self, split: str, column: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return all vectors of a column of N rows of a split, [M, D], and the offsets of each row's, [N + 1]."""
        rows = self.of(split, column)
        values = np.asarray(rows.flatten().flatten()).reshape(-1, rows.type.value_type.list_size)
        return values, np.concatenate([[0], np.cumsum(rows.value_lengths())])

    def targets(self, split: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
        """Return the class index of each row of a split, [N]."""
        index = {label: number for number, label in enumerate(classes)}
        return np.array([index[label] for label in self.of(split, "label").to_pylist()], dtype=np.int64)


class RowValues:
    """A column of a split: each row's list as an array [n] or [n, D], a view of the mapped file, without a copy.

    Columns of pictures or activations are larger than memory, and than the 2 GiB that one Arrow array may address.
    """

    def __init__(self, chunks: list[tuple[NDArray[np.int32], NDArray[Any]]], places: NDArray[np.int64]) -> None:
        self._chunks, self._places = chunks, places

    @classmethod
    def of(cls, table: pa.Table, split: str, column: str) -> "RowValues":
        """Return the rows of a split, in the order of the table."""
        chunks, places = [], []
        splits = table.column("split").chunks
        for number, (labels, rows) in enumerate(zip(splits, table.column(column).chunks, strict=True)):
            chunks.append((rows.offsets.to_numpy(), _numbers(rows.values)))
            within = np.flatnonzero(pa.compute.equal(labels, split).to_numpy(zero_copy_only=False))
            places.append(np.stack([np.full(len(within), number), within], axis=1))
        return cls(chunks, np.concatenate([np.empty((0, 2), np.int64), *places]))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> NDArray[Any]:
        chunk, row = self._places[number]
        offsets, values = self._chunks[chunk]
        return values[offsets[row] : offsets[row + 1]]


def _equal_parts(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns whose fingerprint is the same as before."""
    return tuple(name for name, fingerprint in now.items() if before.get(name) == fingerprint)


def _array(values: list[NDArray[Any]], kind: pa.DataType) -> pa.Array:
    """Return ragged NumPy rows ([n] or [n, D]) as one Arrow list array, without converting to Python numbers."""
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in values])]).astype(np.int32)
    flat = pa.array(np.concatenate(values).reshape(-1))
    inner = kind.value_type
    content = pa.FixedSizeListArray.from_arrays(flat, type=inner) if pa.types.is_fixed_size_list(inner) else flat
    return pa.ListArray.from_arrays(pa.array(offsets), content, type=kind)


def _schema(columns: Columns) -> pa.Schema:
    return pa.schema({**dict.fromkeys(Key.__slots__, pa.string()), **columns, "checksum": pa.uint32()})


def _open(path: Path) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(str(path)))


def _groups(rows: Iterable[tuple[Key, Row]]) -> Iterator[list[tuple[Key, Row]]]:
    group: list[tuple[Key, Row]] = []
    size = 0
    for key, row in rows:
        group.append((key, row))
        size += sum(value.nbytes for value in row.values())
        if len(group) == ROWS or size >= BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _checksum(key: Key, row: Row) -> int:
    """Return the CRC-32 of a row's split, digest and values."""
    checksum = zlib.crc32(f"{key.split} {key.digest}".encode())
    for name in sorted(row):
        checksum = zlib.crc32(np.ascontiguousarray(row[name]).data, checksum)
    return checksum


def _values(batch: pa.RecordBatch, row: int) -> Row:
    """Return the encoding of a row, as it was written."""
    return {
        field.name: _numbers(batch.column(field.name)[row].values)
        for field in batch.schema
        if pa.types.is_list(field.type)
    }


def _numbers(array: pa.Array) -> NDArray[Any]:
    """Return a list's values, [n], or [n, D] of lists of a fixed size."""
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy().reshape(-1, array.type.list_size)
    return array.to_numpy()
