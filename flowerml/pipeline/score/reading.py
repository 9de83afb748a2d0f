"""From pieces of a source to raw inputs, where these are answered: in this process or in a worker."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.core.display import format_size
from flowerml.core.errors import DataError, InputError
from flowerml.data.archives import members
from flowerml.data.archives.members import DEFAULT_LIMITS
from flowerml.data.tables.columns import Record
from flowerml.data.tables.parquet import ParquetRows
from flowerml.engine.parallel import ordered_map
from flowerml.pipeline.score import buckets
from flowerml.pipeline.score.pieces import (
    Address,
    ArchiveMembers,
    Entries,
    Entry,
    Piece,
    Problem,
    Segment,
    TableRows,
    Where,
)
from flowerml.pipeline.score.rows import Item

if TYPE_CHECKING:
    from flowerml.data.archives import Member
    from flowerml.data.examples import Raw
    from flowerml.data.tables.columns import Value
    from flowerml.tasks.base import Task

MAX_BYTES = 256 * 2**20  # of one file
AT_ONCE = 8  # objects of a bucket that are fetched at a time: each takes 20 to 50 ms, of which the network waits most

Named = tuple[str, tuple[str | None, ...], "Raw | InputError"]


class Reader:
    """Reads the pieces of a source for a task.

    A table or an archive stays open, as pieces mostly follow each other: reading one of them then goes on where the
    last one ended.
    """

    def __init__(self, task: "Task") -> None:
        self._task = task
        self._tables: dict[str, ParquetRows] = {}
        self._archives: dict[Path, _ArchiveReader] = {}

    def items(self, piece: Piece) -> Iterator[Item]:
        """Yield the inputs of a piece, each read when its turn comes. Raises DataError."""
        named = chain.from_iterable(map(self._named, piece.segments))
        for number, (name, kept, raw) in enumerate(named, piece.first):
            yield number, name, kept, raw

    def _named(self, segment: Segment) -> Iterator[Named]:
        if isinstance(segment, TableRows):
            return self._table_rows(segment)
        if isinstance(segment, ArchiveMembers):
            return self._members(segment)
        return self._entries(segment)

    def _entries(self, segment: Entries) -> Iterator[Named]:
        if any(isinstance(entry.where, Address) for entry in segment.entries):
            return ordered_map(self._read, segment.entries, threads=AT_ONCE, ahead=2 * AT_ONCE)
        return map(self._read, segment.entries)

    def _read(self, entry: Entry) -> Named:
        return entry.name, entry.kept, read(entry.where, self._task)

    def _table_rows(self, segment: TableRows) -> Iterator[Named]:
        if segment.table not in self._tables:
            for table in self._tables.values():
                table.close()
            self._tables = {segment.table: ParquetRows(buckets.table_file(segment.table), dict(segment.names))}
        kept = [role for role, _ in segment.names if role.startswith(KEEP)]
        for record in self._tables[segment.table].read(segment.first, segment.count):
            name = text(record.values.get("id")) or f"{segment.prefix}row {record.number}"
            yield name, tuple(optional_text(record.values.get(role)) for role in kept), raw_of(record, self._task)

    def _members(self, segment: ArchiveMembers) -> Iterator[Named]:
        if segment.archive not in self._archives:
            self._archives = {segment.archive: _ArchiveReader(segment.archive)}
        reader = self._archives[segment.archive]
        for member in segment.members:
            if member.problem is not None:
                yield member.name, (), member.problem.error()
            else:
                data = reader.content(member.position, member.name)
                yield member.name, (), _decoded(self._task, partial(limited, data))


KEEP = "keep "  # the beginning of a carried column's role


class _ArchiveReader:
    """An archive that is read from front to back, as often as needed."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._members: Iterator[tuple[int, Member]] = iter(())
        self._position = -1

    def content(self, position: int, name: str) -> bytes:
        if self._position < 0 or position <= self._position:
            self._members = enumerate(members(self._archive, DEFAULT_LIMITS))
        for at, member in self._members:
            self._position = at
            if at == position and member.name == name:
                return member.read()
            if at >= position:
                break
        self._position = -1
        raise DataError(f"{self._archive}: changed while it was read; re-run the command when it no longer changes")


def read(where: Where, task: "Task") -> "Raw | InputError":
    """Return the raw input that the classifier takes, or an InputError."""
    if isinstance(where, str):
        return where
    if isinstance(where, Problem):
        return where.error()
    return _decoded(task, partial(content, where))


def content(where: Path | Address | bytes) -> bytes:
    """Return the bytes of a file or of an object in a bucket; raises InputError."""
    if isinstance(where, bytes):
        return where
    if isinstance(where, Address):
        return limited(buckets.content(where.url, limit=MAX_BYTES + 1))
    try:
        with where.open("rb") as file:
            return limited(file.read(MAX_BYTES + 1))
    except FileNotFoundError:
        raise InputError("no_such_file", "no such file") from None
    except IsADirectoryError:
        raise InputError("empty_folder", "a folder without files of this kind") from None
    except OSError as error:
        raise InputError("unreadable_file", f"cannot be read ({error.strerror})") from None


def raw_of(record: Record, task: "Task") -> "Raw | InputError":
    """Return the raw input in a row of a table, or an InputError."""
    if record.problem:
        return InputError("unusable_row", record.problem)
    value = record.values.get("text")
    if task.RAW is str:
        return text(value)
    if isinstance(value, str):
        return InputError("unusable_row", f"a text where the bytes of a {task.NOUN} are expected")
    return _decoded(task, partial(limited, value or b""))


def text(value: "Value") -> str:
    """Return a value of a table as valid Unicode; empty where it is missing."""
    return (
        value.decode(errors="replace") if isinstance(value, bytes) else (value or "").encode(errors="replace").decode()
    )


def optional_text(value: "Value") -> str | None:
    """Return a value of a table as valid Unicode; None where it is missing."""
    return None if value is None else text(value)


def limited(content: bytes) -> bytes:
    """Return the content of a file; raises InputError where it is too large."""
    if len(content) > MAX_BYTES:
        raise InputError("file_too_large", f"larger than {format_size(MAX_BYTES)}")
    return content


def _decoded(task: "Task", content: Callable[[], bytes]) -> "Raw | InputError":
    """Return a content as the raw input that the classifier takes, or an InputError."""
    try:
        return task.from_bytes(content())
    except InputError as error:
        return error.without_traceback()
