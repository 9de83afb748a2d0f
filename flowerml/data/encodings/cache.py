"""Rows of earlier files of encodings, also of unfinished ones, that need not be encoded again."""

import json
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from flowerml.core.errors import DataError
from flowerml.data.encodings.layout import FINGERPRINTS, PARTS, BatchRows, Columns, Row, checksum, schema_of
from flowerml.data.examples import Key
from flowerml.data.parts import files_of

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, DataError, pa.ArrowException)
MAGIC = 8  # bytes at the start of an Arrow file, before the stream of record batches


class EncodingCache:
    """The rows of earlier files of encodings whose fingerprints are still valid, by the digest of their example.

    These are the table at `path` and the files `others`, such as those that a killed process has left. What is missing,
    damaged or of another format is passed over. Memory: four record batches, and 24 bytes a row.
    """

    def __init__(
        self,
        path: Path,
        *,
        columns: Columns,
        fingerprints: Mapping[str, str],
        parts: Mapping[str, str] | None = None,
        others: Iterable[Path] = (),
    ) -> None:
        self._fingerprints, self._now = fingerprints, parts or {}
        self._rows, self._by_digest = _Index(), _Index()
        self._batches: list[tuple[_File, int]] = []
        self._lock = threading.Lock()
        self._loaded = lru_cache(4)(self._load)
        schema = schema_of(columns)
        self._files = [file for source in [*_files(path), *others] if (file := _File.open(source, schema)) is not None]
        for file in self._files:
            self._add(file)
        self._rows.freeze()
        self._by_digest.freeze()

    def __contains__(self, key: Key) -> bool:
        return self._rows.find(self._fingerprints[key.split], key.digest) is not None

    def __getitem__(self, key: Key) -> Row:
        """Return the encoding of an example; raises KeyError where there is none."""
        place = self._rows.find(self._fingerprints[key.split], key.digest)
        if place is None:
            raise KeyError(key)
        return self._row(place)

    def part(self, digest: str) -> Row:
        """Return the columns of the content with this digest that are still valid, also where its row is not."""
        place = self._by_digest.find(digest)
        if place is None:
            return {}
        file, _ = self._batches[place // PLACES]
        values = self._row(place)
        return {name: values[name] for name in file.equal_parts(self._now)}

    def superfluous(self) -> list[Path]:
        """Return the files of which each row is also in one before it."""
        used = {id(self._batches[batch][0]) for batch in {place // PLACES for place in self._rows.places()}}
        return [file.path for file in self._files if id(file) not in used]

    def _add(self, file: "_File") -> None:
        """Add the sound rows of a file to the index; after a damaged batch no other one is trusted."""
        try:
            parts = file.equal_parts(self._now)
            for number in range(len(file)):
                batch = file.batch(number)
                batch.validate(full=True)
                rows, place = BatchRows(batch), len(self._batches) * PLACES
                self._batches.append((file, number))
                for row, (key, check) in enumerate(zip(rows.keys(), rows.checksums(), strict=True)):
                    if check == checksum(key, rows[row]):
                        self._rows.add(place + row, file.fingerprints[key.split], key.digest)
                        if parts:
                            self._by_digest.add(place + row, key.digest)
        except UNREADABLE:
            return

    def _row(self, place: int) -> Row:
        # Encoders ask for rows in threads, and a reader of Arrow is not made for several.
        with self._lock:
            rows: BatchRows = self._loaded(place // PLACES)
        return rows[place % PLACES]

    def _load(self, number: int) -> BatchRows:
        file, batch = self._batches[number]
        return BatchRows(file.batch(batch))


def fingerprints_of(path: Path, columns: Columns) -> Mapping[str, str] | None:
    """Return the fingerprints of a file of encodings; None where it is missing, damaged or has other columns."""
    file = _File.open(path, schema_of(columns))
    return None if file is None else file.fingerprints


PLACES = 2**20  # rows in a batch, at most


class _File:
    """The record batches of a file, also of one that was not finished, and the facts in its metadata."""

    def __init__(self, path: Path) -> None:
        self.path = path
        buffer = pa.memory_map(str(path)).read_buffer()
        self._reader: pa.ipc.RecordBatchFileReader | None = None
        self._batches: Sequence[pa.RecordBatch] = ()
        try:
            self._reader = pa.ipc.open_file(buffer)
            schema = self._reader.schema
        except pa.ArrowException:
            stream = pa.ipc.open_stream(buffer.slice(MAGIC))
            schema, self._batches = stream.schema, list(_readable(stream))
        self.schema = schema
        metadata = schema.metadata or {}
        self.fingerprints: Mapping[str, str] = json.loads(metadata[FINGERPRINTS])
        self._parts: Mapping[str, str] = json.loads(metadata.get(PARTS, b"{}"))

    @classmethod
    def open(cls, path: Path, schema: pa.Schema) -> "_File | None":
        """Return the file; None where it is missing, damaged or of another schema."""
        try:
            file = cls(path)
        except UNREADABLE:
            return None
        return file if file.schema.equals(schema) else None

    def __len__(self) -> int:
        return len(self._batches) if self._reader is None else self._reader.num_record_batches

    def batch(self, number: int) -> pa.RecordBatch:
        return self._batches[number] if self._reader is None else self._reader.get_batch(number)

    def equal_parts(self, now: Mapping[str, str]) -> tuple[str, ...]:
        """Return the columns whose fingerprint is the same as `now`."""
        return tuple(name for name, fingerprint in now.items() if self._parts.get(name) == fingerprint)


class _Index:
    """Places by words, such as a fingerprint and a digest: sorted hashes of 128 bits, of which the first one counts.

    A dict of tuples takes 300 bytes a row, this 24.
    """

    def __init__(self) -> None:
        self._first, self._second, self._places = array("Q"), array("Q"), array("Q")

    def add(self, place: int, *words: str) -> None:
        first, second = _hashes(words)
        self._first.append(first)
        self._second.append(second)
        self._places.append(place)

    def freeze(self) -> None:
        """Sort the hashes, after all were added; of equal ones keep that of the first place."""
        columns = [np.array(column, np.uint64) for column in (self._first, self._second, self._places)]
        columns = [column[np.lexsort(columns[::-1])] for column in columns]
        first, second, _ = columns
        new = np.ones(len(first), bool)
        new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
        self._first, self._second, self._places = (array("Q", column[new].tobytes()) for column in columns)

    def find(self, *words: str) -> int | None:
        first, second = _hashes(words)
        number = bisect_left(self._first, first)
        while number < len(self._first) and self._first[number] == first:
            if self._second[number] == second:
                return self._places[number]
            number += 1
        return None

    def places(self) -> Iterator[int]:
        return iter(self._places)


def _hashes(words: Iterable[str]) -> tuple[int, int]:
    digest = blake2b("\0".join(words).encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _files(path: Path) -> list[Path]:
    try:
        return files_of(path)
    except (DataError, OSError):
        return []


def _readable(stream: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the record batches before the end, or before the one that is cut off."""
    try:
        yield from stream
    except (OSError, pa.ArrowException):
        return
