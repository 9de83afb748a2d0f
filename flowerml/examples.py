"""The example table of a pipeline: one Parquet file with id, split, label, digest and the raw input."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flowerml.files import replacing

ROW_GROUP_BYTES = 32 * 2**20

Raw = bytes | str


@dataclass(frozen=True)
class Key:
    """What is known of an example beside its content."""

    id: str
    split: str
    label: str


@dataclass(frozen=True)
class Example(Key):
    """One labelled input as it came: the bytes of a picture, or a text."""

    raw: Raw

    @property
    def digest(self) -> str:
        """The SHA-256 of the raw input, in hex."""
        return hashlib.sha256(self.raw.encode() if isinstance(self.raw, str) else self.raw).hexdigest()


def write(path: Path, examples: Iterable[Example], *, raw: type[Raw]) -> None:
    """Write the examples in their order, a row group at a time, so that memory does not grow with their number."""
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
    """The examples in a Parquet file; nothing is read before it is asked for."""

    path: Path

    def __iter__(self) -> Iterator[Example]:
        return self._read(None)

    def of(self, *splits: str) -> Iterator[Example]:
        """The examples of the given splits, in the order of the file, a few at a time in memory."""
        return self._read(splits)

    def keys(self, *splits: str) -> list[Key]:
        """The id, split and label of the examples of the given splits, in the same order as `of`."""
        rows = pq.read_table(self.path, columns=["id", "split", "label"]).to_pylist()
        return [Key(**row) for row in rows if row["split"] in splits]

    def digest(self, *splits: str) -> str:
        """A SHA-256 over ids, splits, labels and contents of the given splits (all, where none is given).

        It does not depend on the order of the rows.
        """
        columns = ["id", "split", "label", "digest"]
        rows = pq.read_table(self.path, columns=columns).to_pylist()
        lines = ["\t".join(row[name] for name in columns) for row in rows if not splits or row["split"] in splits]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def _read(self, splits: tuple[str, ...] | None) -> Iterator[Example]:
        columns = ["id", "split", "label", "raw"]
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=64, columns=columns):
                for row in batch.to_pylist():
                    if splits is None or row["split"] in splits:
                        yield Example(**row)


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
