"""Writing encodings, a few hundred rows at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flowerml.core.files import replacing
from flowerml.data.encodings.layout import Columns, Row, checksum, metadata_of, schema_of
from flowerml.data.examples import Key
from flowerml.data.parts import part_name

SUFFIX = ".arrow"
# The size of a record batch, which is what is in memory while writing.
ROWS = 256
BYTES = 16 * 2**20

Rows = Iterable[tuple[Key, Row]]


def write(
    path: Path,
    rows: Rows,
    *,
    columns: Columns,
    fingerprints: Mapping[str, str] | None = None,
    parts: Mapping[str, str] | None = None,
) -> None:
    """Write the key, the encoding and a checksum of each example to one file, atomically.

    `fingerprints` hold, for each split, a hash of everything but the digests that its encodings depend on. `parts` hold
    such a hash for columns that depend on less than the others, and are the same in all splits.
    """
    with replacing(path) as temporary:
        _write_file(temporary, rows, columns, metadata_of(fingerprints, parts))


def write_resumably(
    path: Path,
    divided: Sequence[Rows],
    folder: Path,
    *,
    columns: Columns,
    fingerprints: Mapping[str, str],
    parts: Mapping[str, str],
) -> None:
    """Write one file, or a folder of as many parts as the rows are divided into, atomically, by way of `folder`.

    What a killed process has written stays there, where `EncodingCache` reads it, though the last batch may be cut off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = metadata_of(fingerprints, parts, count=len(divided))
    written = [folder / part_name(number, SUFFIX) for number in range(len(divided))]
    with replacing(path) as temporary:  # from the start: it names the path in errors, such as those of a full disk
        for file, rows in zip(written, divided, strict=True):
            _write_file(file, rows, columns, metadata)
        if len(written) == 1:
            written[0].rename(temporary)
        else:
            temporary.mkdir()
            for file in written:
                file.rename(temporary / file.name)


def _write_file(path: Path, rows: Rows, columns: Columns, metadata: Mapping[bytes, str]) -> None:
    schema = schema_of(columns).with_metadata(metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as file:
        for group in _groups(rows):
            keys = {name: [getattr(key, name) for key, _ in group] for name in Key.__slots__}
            values = {name: _array([row[name] for _, row in group], kind) for name, kind in columns.items()}
            checks = [checksum(key, row) for key, row in group]
            file.write_batch(pa.RecordBatch.from_pydict({**keys, **values, "checksum": checks}, schema=schema))


def _array(values: list[NDArray[Any]], kind: pa.DataType) -> pa.Array:
    """Return ragged NumPy rows ([n] or [n, D]) as one Arrow list array, without converting to Python numbers."""
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in values])]).astype(np.int32)
    flat = pa.array(np.concatenate(values).reshape(-1))
    inner = kind.value_type
    content = pa.FixedSizeListArray.from_arrays(flat, type=inner) if pa.types.is_fixed_size_list(inner) else flat
    return pa.ListArray.from_arrays(pa.array(offsets), content, type=kind)


def _groups(rows: Rows) -> Iterator[list[tuple[Key, Row]]]:
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
