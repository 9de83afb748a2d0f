"""What is in a file of encodings: the columns, and the checksum of each row."""

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flowerml.data.examples import Key

FINGERPRINTS, PARTS = b"fingerprints", b"parts"
COUNT = b"count"  # of files, in each of several

Row = dict[str, NDArray[Any]]
Columns = Mapping[str, pa.DataType]


def schema_of(columns: Columns) -> pa.Schema:
    """Return the schema of the rows: the key, the encoder's columns, and a checksum."""
    return pa.schema({**dict.fromkeys(Key.__slots__, pa.string()), **columns, "checksum": pa.uint32()})


def metadata_of(
    fingerprints: Mapping[str, str] | None, parts: Mapping[str, str] | None, *, count: int = 1
) -> dict[bytes, str]:
    """Return the facts that stand in each of `count` files."""
    facts = {FINGERPRINTS: fingerprints or {}, PARTS: parts or {}}
    metadata = {name: json.dumps(fact, sort_keys=True) for name, fact in facts.items()}
    return metadata if count == 1 else {**metadata, COUNT: str(count)}


def checksum(key: Key, row: Row) -> int:
    """Return the CRC-32 of a row's split, digest and values."""
    value = zlib.crc32(f"{key.split} {key.digest}".encode())
    for name in sorted(row):
        value = zlib.crc32(np.ascontiguousarray(row[name]).data, value)
    return value


def numbers(array: pa.Array) -> NDArray[Any]:
    """Return the values of lists, [n], or [n, D] of lists of a fixed size, without a copy."""
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy().reshape(-1, array.type.list_size)
    return array.to_numpy()


class BatchRows:
    """The rows of a record batch; their values are views of its memory."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        self._lists = {
            field.name: (batch.column(field.name).offsets.to_numpy(), numbers(batch.column(field.name).values))
            for field in batch.schema
            if pa.types.is_list(field.type)
        }

    def __getitem__(self, row: int) -> Row:
        """Return the encoding of a row, as it was written."""
        return {name: values[offsets[row] : offsets[row + 1]] for name, (offsets, values) in self._lists.items()}

    def keys(self) -> list[Key]:
        """Return the key of each row."""
        columns = (self.batch.column(name).to_pylist() for name in Key.__slots__)
        return [Key(*fields) for fields in zip(*columns, strict=True)]

    def checksums(self) -> list[int]:
        """Return the checksum of each row, as it was written."""
        return self.batch.column("checksum").to_pylist()
