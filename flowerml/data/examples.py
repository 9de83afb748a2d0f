"""The example table of a pipeline: one Parquet file with id, split, label, digest and the raw input."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowerml.core.files import replacing

ROW_GROUP_BYTES = 32 * 2**20

Raw = bytes | str


@dataclass(frozen=True, slots=True)
class Key:
    """An example without its content; `digest` is the content's SHA-256, in hex."""

    id: str
    split: str
    label: str
    digest: str


@dataclass(frozen=True)
class Example:
    """One labelled input as it is in the source: the bytes of a picture, or a text."""

    id: str
    split: str
    label: str
    raw: Raw

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the raw input, in hex."""
        return hashlib.sha256(self.raw.encode() if isinstance(self.raw, str) else self.raw).hexdigest()


def write(path: Path, examples: Iterable[Example], *, raw: type[Raw]) -> None:
    """Write examples in their order, a row group at a time, so that memory does not grow with their number."""
    schema = pa.schema(
        {
            "id": pa.string(),
            "split": pa.string(),
            "label": pa.string(),
            "digest": pa.string(),
            "raw": pa.binary() if raw is bytes else pa.string(),
        }
    )
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for group in _groups(examples):
            writer.write_batch(pa.RecordBatch.from_pylist([_row(example) for example in group], schema=schema))


@dataclass(frozen=True)
class Examples:
    """The examples in a Parquet file, read lazily.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "examples.parquet")
    >>> write(path, [Example("1.txt", "train", "good", "Fun."), Example("2.txt", "test", "bad", "Dull.")], raw=str)
    >>> [example.raw for example in Examples(path).of("train")]
    ['Fun.']
    """

    path: Path

    def __iter__(self) -> Iterator[Example]:
        return self._read(lambda key: True)

    def of(self, *splits: str, where: Callable[[Key], bool] = lambda key: True) -> Iterator[Example]:
        """Yield the examples of the splits for which `where` holds, in the order of the file.

        A few are in memory at a time. Row groups without a wanted example are not read.
        """
        return self._read(lambda key: key.split in splits and where(key))

    def keys(self, *splits: str) -> Iterator[Key]:
        """Yield the keys of the splits' examples, in the same order as `of`."""
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                yield from (key for key in _keys(file, group) if key.split in splits)

    def count(self, *splits: str) -> int:
        """Return the number of examples in the splits."""
        column = pq.read_table(self.path, columns=["split"])["split"]
        return sum(name in splits for name in column.to_pylist())

    def digest(self, *splits: str) -> str:
        """Return a SHA-256 of the ids, splits, labels and contents of the splits (of all, where none is given).

        It does not depend on the order of the rows.
        """
        columns = ["id", "split", "label", "digest"]
        rows = pq.read_table(self.path, columns=columns).to_pylist()
        lines = ["\t".join(row[name] for name in columns) for row in rows if not splits or row["split"] in splits]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def _read(self, wanted: Callable[[Key], bool]) -> Iterator[Example]:
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                chosen = [wanted(key) for key in _keys(file, group)]
                if any(chosen):
                    rows = compress(_rows(file, group, ["id", "split", "label", "raw"]), chosen)
                    yield from (Example(**row) for row in rows)


def _keys(file: pq.ParquetFile, group: int) -> Iterator[Key]:
    return (Key(**row) for row in _rows(file, group, ["id", "split", "label", "digest"]))


def _rows(file: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(batch_size=64, row_groups=[group], columns=columns):
        yield from batch.to_pylist()


def _groups(examples: Iterable[Example]) -> Iterator[list[Example]]:
    group: list[Example] = []
    size = 0
    for example in examples:
        group.append(example)
        size += len(example.raw)
        if size >= ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _row(example: Example) -> dict[str, object]:
    return {
        "id": example.id,
        "split": example.split,
        "label": example.label,
        "digest": example.digest,
        "raw": example.raw,
    }
