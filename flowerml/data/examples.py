"""The example table of a pipeline: id, split, label, digest and the raw input of each example, in Parquet.

It is one file or, once it is large, a folder of parts (see `parts`).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, compress, groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
from numpy.typing import NDArray

from flowerml.core.errors import DataError
from flowerml.data import parts
from flowerml.data.row_digest import digest_of_rows

ROW_GROUP_BYTES = 32 * 2**20
# A part is full with this many bytes (characters) of raw inputs, or rows. The flowers have 330 MB, IMDb 50,000 texts.
PART_BYTES = 2 * 2**30
PART_ROWS = 2**20
# A row group is read in at most so many blocks: to reach a row, those before it in the group are decoded.
MOST_BLOCKS = 8

IS_LAST = b"last"  # in the metadata of each of several parts, so that a folder which lost its end is recognized
COLUMNS = {"id", "split", "label", "digest", "raw"}

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


@dataclass(frozen=True, order=True, slots=True)
class Block:
    """The rows `start` to `stop` of a row group of a part: a unit of work that any process can read by itself."""

    part: int
    group: int
    start: int
    stop: int


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
    groups = _Groups(examples)
    with parts.replacing_parts(path, ".parquet") as next_part:
        number = 0
        while number == 0 or groups.more:
            with pq.ParquetWriter(next_part(), schema, compression="zstd") as writer:
                for group in groups.of_part():
                    writer.write_batch(pa.RecordBatch.from_pylist([_row(example) for example in group], schema=schema))
                if number or groups.more:
                    writer.add_key_value_metadata({IS_LAST.decode(): str(not groups.more).lower()})
            number += 1


@dataclass(frozen=True)
class Examples:
    """The examples of a table, read lazily. `blocks` are parts of it, to read in several processes.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "examples.parquet")
    >>> write(path, [Example("1.txt", "train", "good", "Fun."), Example("2.txt", "test", "bad", "Dull.")], raw=str)
    >>> [example.raw for example in Examples(path).of("train")]
    ['Fun.']
    >>> Examples(path).blocks()
    [Block(part=0, group=0, start=0, stop=2)]
    """

    path: Path

    def __iter__(self) -> Iterator[Example]:
        return self._read(lambda key: True, None)

    def of(
        self, *splits: str, where: Callable[[Key], bool] = lambda key: True, blocks: Iterable[Block] | None = None
    ) -> Iterator[Example]:
        """Yield the examples of the splits for which `where` holds, in the order of the table, or of the `blocks`.

        A few are in memory at a time. Row groups without a wanted example are not read.
        """
        return self._read(lambda key: key.split in splits and where(key), blocks)

    def keys(self, *splits: str, blocks: Iterable[Block] | None = None) -> Iterator[Key]:
        """Yield the keys of the splits' examples, in the same order as `of`."""
        for file, block in self._opened(blocks):
            yield from (key for key in _keys(file, block) if key.split in splits)

    def count(self, *splits: str, blocks: Iterable[Block] | None = None) -> int:
        """Return the number of examples in the splits."""
        places = self._places(splits)
        if blocks is None:
            return len(places)
        starts = self._starts()
        ranges = [(starts[block.part, block.group] + block.start, block.stop - block.start) for block in blocks]
        return sum(int(np.diff(np.searchsorted(places, [start, start + size]))[0]) for start, size in ranges)

    def digest(self, *splits: str) -> str:
        """Return a SHA-256 of the ids, splits, labels and contents of the splits (of all, where none is given).

        It does not depend on the order of the rows, nor on the parts.
        """
        columns = ["id", "split", "label", "digest"]
        wanted = pa.array(splits, pa.string())
        batches = self._batches(columns)
        chosen = (batch.filter(pa.compute.is_in(batch["split"], wanted)) if splits else batch for batch in batches)
        return digest_of_rows(chosen, columns)

    def blocks(self, *, rows: int = 256) -> list[Block]:
        """Return blocks of all rows, in order, of about `rows` or more; they depend on the table alone."""
        blocks: list[Block] = []
        for whole in self._row_groups():
            count = max(1, min(MOST_BLOCKS, whole.stop // rows))
            bounds = [whole.stop * number // count for number in range(count + 1)]
            blocks += [replace(whole, start=start, stop=stop) for start, stop in pairwise(bounds)]
        return blocks

    def blocks_of_parts(self) -> list[list[Block]]:
        """Return the row groups of each part."""
        parts: list[list[Block]] = [[] for _ in self.parts]
        for block in self._row_groups():
            parts[block.part].append(block)
        return parts

    def share(self, number: int, count: int, *splits: str) -> list[Block]:
        """Return the blocks of one of `count` shares, from 1, of about as many examples of the splits each.

        Together, in their order, the shares are the whole table.
        """
        places, whole = self._places(splits), list(self._row_groups())
        bounds = [int(places[len(places) * part // count]) for part in range(1, count) if len(places)]
        cuts = [0, *(bounds or [0] * (count - 1)), sum(block.stop - block.start for block in whole)]
        return _between(whole, cuts[number - 1], cuts[number])

    @property
    def raw(self) -> type[Raw]:
        """The type of a raw input."""
        return bytes if pa.types.is_binary(pq.read_schema(self.parts[0]).field("raw").type) else str

    @property
    def parts(self) -> Sequence[Path]:
        """The files of the table: one, or the parts of a folder. Raises DataError where one is missing."""
        files = parts.files_of(self.path)
        metadata = pq.read_metadata(files[-1]).metadata or {}
        if metadata.get(IS_LAST) == b"false":
            name = parts.part_name(len(files), ".parquet")
            raise DataError(f"{self.path}: {name} is missing, and perhaps others after it; run `extract` again")
        return files

    def _places(self, splits: Sequence[str]) -> NDArray[np.int64]:
        """Return the number in the table of each example of the splits."""
        wanted, places, count = pa.array(splits, pa.string()), [np.empty(0, np.int64)], 0
        for batch in self._batches(["split"]):
            chosen = pa.compute.is_in(batch["split"], wanted).to_numpy(zero_copy_only=False)
            places.append(np.flatnonzero(chosen) + count)
            count += len(batch)
        return np.concatenate(places)

    def _row_groups(self) -> Iterator[Block]:
        for part, path in enumerate(self.parts):
            metadata = pq.read_metadata(path)
            for group in range(metadata.num_row_groups):
                yield Block(part, group, 0, metadata.row_group(group).num_rows)

    def _starts(self) -> dict[tuple[int, int], int]:
        """Return the number in the table of the first row of each row group."""
        groups = list(self._row_groups())
        ends = accumulate(block.stop for block in groups)
        return {(block.part, block.group): end - block.stop for block, end in zip(groups, ends, strict=True)}

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        for path in self.parts:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(columns=columns)

    def _opened(self, blocks: Iterable[Block] | None) -> Iterator[tuple[pq.ParquetFile, Block]]:
        """Yield blocks (of all rows where none are given), with the open file that each is in."""
        paths = self.parts
        chosen = self._row_groups() if blocks is None else blocks
        for part, blocks_of_part in groupby(chosen, key=lambda block: block.part):
            with pq.ParquetFile(paths[part]) as file:
                for block in blocks_of_part:
                    yield file, block

    def _read(self, wanted: Callable[[Key], bool], blocks: Iterable[Block] | None) -> Iterator[Example]:
        for file, block in self._opened(blocks):
            chosen = [wanted(key) for key in _keys(file, block)]
            if any(chosen):
                rows = compress(_rows(file, block, ["id", "split", "label", "raw"]), chosen)
                yield from (Example(**row) for row in rows)


def is_examples(path: Path) -> bool:
    """Return whether this is an example table: Parquet, a file or a folder of parts, with the columns of one."""
    if path.suffix.lower() != ".parquet" or not (path.is_file() or path.is_dir()):
        return False
    try:
        return set(pq.read_schema(parts.files_of(path)[0]).names) >= COLUMNS
    except (pa.ArrowException, OSError, DataError):
        return False


def _keys(file: pq.ParquetFile, block: Block) -> Iterator[Key]:
    return (Key(**row) for row in _rows(file, block, ["id", "split", "label", "digest"]))


def _rows(file: pq.ParquetFile, block: Block, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a block, of which those of 64 are in memory."""
    end = 0
    for batch in file.iter_batches(batch_size=64, row_groups=[block.group], columns=columns):
        start, end = end, end + len(batch)
        if end > block.start:
            first, last = max(block.start - start, 0), min(block.stop - start, len(batch))
            yield from batch.slice(first, last - first).to_pylist()
        if end >= block.stop:
            return


def _between(blocks: Iterable[Block], start: int, stop: int) -> list[Block]:
    """Return the rows with the numbers from `start` to `stop` of all those in the blocks."""
    chosen, end = [], 0
    for block in blocks:
        first, end = end, end + block.stop - block.start
        low, high = max(start, first) - first, min(stop, end) - first
        if low < high:
            chosen.append(replace(block, start=block.start + low, stop=block.start + high))
    return chosen


class _Groups:
    """Examples in groups of a few megabytes, and these in parts."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._examples = iter(examples)
        self._next = next(self._examples, None)

    @property
    def more(self) -> bool:
        """Whether there are examples for another part."""
        return self._next is not None

    def of_part(self) -> Iterator[list[Example]]:
        """Yield the groups of the next part."""
        size, count = 0, 0
        while self.more and size < PART_BYTES and count < PART_ROWS:
            group, group_size = self._group()
            size, count = size + group_size, count + len(group)
            yield group

    def _group(self) -> tuple[list[Example], int]:
        group: list[Example] = []
        size = 0
        while self._next is not None and size < ROW_GROUP_BYTES:
            group.append(self._next)
            size += len(self._next.raw)
            self._next = next(self._examples, None)
        return group, size


def _row(example: Example) -> dict[str, object]:
    return {
        "id": example.id,
        "split": example.split,
        "label": example.label,
        "digest": example.digest,
        "raw": example.raw,
    }
