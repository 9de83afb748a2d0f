"""The formats of a file of answers: CSV, JSON lines and Parquet, written row by row and the same bytes each time."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.core.errors import FlowermlError
from flowerml.pipeline.score.pieces import CHUNK
from flowerml.pipeline.score.rows import RANKED, Row

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = ".parquet"
FORMATS = (".csv", ".jsonl", PARQUET)
GROUP = 16 * CHUNK  # rows of a row group


def check_format(name: str) -> None:
    """Raise FlowermlError unless answers can be written to a file of this name."""
    if not name.lower().endswith(FORMATS):
        raise FlowermlError(f"{name}: expected a file ending in {', '.join(FORMATS)}")


def write(path: Path, suffix: str, fields: Sequence[str], rows: Iterator[Row]) -> None:
    """Write rows in the format of a suffix."""
    _WRITERS[suffix](path, fields, rows)


def read_parquet(path: Path) -> Iterator[Row]:
    """Yield the rows of a file that `write` has written in Parquet."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(CHUNK):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _write_csv(path: Path, fields: Sequence[str], rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows(rows)


def _write_jsonl(path: Path, fields: Sequence[str], rows: Iterator[Row]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(fields, row, strict=True)), ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(path: Path, fields: Sequence[str], rows: Iterator[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(fields)
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(rows, GROUP)):
            columns = [
                pa.array(values, kind) for values, kind in zip(zip(*chunk, strict=True), schema.types, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _schema(fields: Sequence[str]) -> "pa.Schema":
    import pyarrow as pa

    types = {"row": pa.int64(), "known": pa.bool_(), "out_of_distribution": pa.float64(), "probability": pa.float64()}
    # The columns of further classes are numbered, and no other column may be called so.
    return pa.schema([(name, types.get(RANKED.sub("", name), pa.string())) for name in fields])


_WRITERS: dict[str, Callable[[Path, Sequence[str], Iterator[Row]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
