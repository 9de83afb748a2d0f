"""What a source of inputs is cut into: pieces of CHUNK rows, plain data that a worker reads by itself.

The last bits of a probability may depend on the other inputs of a pass through the network, so a piece is answered as a
whole, by any worker, and the answers do not depend on how many there are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from flowerml.core.errors import InputError

CHUNK = 256  # rows


@dataclass(frozen=True)
class Problem:
    """Why an input cannot be read: the code and the message of an InputError, which does not survive a pickle."""

    code: str
    message: str

    @classmethod
    def of(cls, error: InputError) -> "Problem":
        return cls(error.code, error.message)

    def error(self) -> InputError:
        return InputError(self.code, self.message)


@dataclass(frozen=True)
class Address:
    """The address of an object in a bucket."""

    url: str


Where = str | bytes | Path | Address | Problem
"""A raw input that is a text, the content of a file, where a file lies, or why there is none."""


@dataclass(frozen=True)
class Entry:
    """One input by the name that its answer gets; `kept` are the values of the columns to carry along."""

    name: str
    where: Where
    kept: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Entries:
    """Inputs one by one."""

    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class TableRows:
    """Neighbouring rows of a Parquet table, which is read where they are answered.

    `names` are the columns by role (text, id, keep 0, …); `first` counts from 0 in the table.
    """

    table: str
    names: tuple[tuple[str, str], ...]
    first: int
    count: int
    prefix: str = ""

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True)
class ArchiveMember:
    """A member of an archive by its position in it."""

    position: int
    name: str
    problem: Problem | None = None


@dataclass(frozen=True)
class ArchiveMembers:
    """Members of an archive, in its order, which is read where they are answered."""

    archive: Path
    members: tuple[ArchiveMember, ...]

    def __len__(self) -> int:
        return len(self.members)


Segment = Entries | TableRows | ArchiveMembers


@dataclass(frozen=True)
class Piece:
    """CHUNK rows of a source, the last piece fewer. `index` counts pieces from 0."""

    index: int
    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    @property
    def first(self) -> int:
        """Return the number of the first row, counted from 1."""
        return self.index * CHUNK + 1


class Stretch(Protocol):
    """A part of a source: a table, a folder, an archive."""

    def take(self, count: int) -> Segment | None:
        """Return at most the next `count` rows; None where there are no more."""


@dataclass
class EntryStretch:
    """A stretch whose entries come one by one."""

    entries: Iterator[Entry]

    def take(self, count: int) -> Entries | None:
        """Return the next entries."""
        taken = tuple(islice(self.entries, count))
        return Entries(taken) if taken else None


@dataclass
class TableStretch:
    """A Parquet table of `rows` rows."""

    table: str
    names: tuple[tuple[str, str], ...]
    rows: int
    prefix: str = ""
    taken: int = 0

    def take(self, count: int) -> TableRows | None:
        """Return the next rows; nothing is read."""
        count = min(count, self.rows - self.taken)
        if not count:
            return None
        self.taken += count
        return TableRows(self.table, self.names, self.taken - count, count, self.prefix)


@dataclass
class ArchiveStretch:
    """The wanted members of an archive."""

    archive: Path
    members: Iterator[ArchiveMember]

    def take(self, count: int) -> ArchiveMembers | None:
        """Return the next members; none of them is read."""
        taken = tuple(islice(self.members, count))
        return ArchiveMembers(self.archive, taken) if taken else None


def cut(stretches: Iterable[Stretch]) -> Iterator[Piece]:
    """Yield the rows of all stretches in order, as pieces of CHUNK rows.

    >>> names = (("text", "review"),)
    >>> [len(piece) for piece in cut([TableStretch("a.parquet", names, 300), TableStretch("b.parquet", names, 300)])]
    [256, 256, 88]
    """
    index, segments, room = 0, list[Segment](), CHUNK
    for stretch in stretches:
        while (segment := stretch.take(room)) is not None:
            segments.append(segment)
            room -= len(segment)
            if not room:
                yield Piece(index, tuple(segments))
                index, segments, room = index + 1, [], CHUNK
    if segments:
        yield Piece(index, tuple(segments))
