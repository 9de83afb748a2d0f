"""The members of folders, tars and zips, and the limits that keep a hostile source from filling disk or memory."""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from flowerml.core.display import display_path, format_size, printable
from flowerml.core.errors import DataError

BOMB_BYTES = 2**30
BOMB_RATIO = 200  # flat drawings and generated texts reach 100; deflate can reach 1,032, bzip2 45,000
MAX_NAME = 4096
UNDECODED = re.compile("[\ud800-\udfff]")  # bytes of a name that are not UTF-8, as Python represents them
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")  # and the two other line ends
DRIVE = re.compile("[A-Za-z]:/")
# What the readers raise for damaged bytes. NotImplementedError: a zip of a later version.
DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    UnicodeDecodeError,
)


@dataclass(frozen=True)
class ArchiveLimits:
    """The limits of a source: a bomb or a mistake ends in an error, not in a full disk or memory."""

    members: int = 2_000_000  # entries, directories included
    member_bytes: int = 256 * 2**20  # of one entry, unpacked; a larger one is skipped and reported
    unpacked_bytes: int = 256 * 2**30  # of all entries together


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Member:
    """One entry of a folder or archive. `problem` says why it must not be read; `size` is in bytes, unpacked."""

    name: str
    contents: Callable[[], bytes]
    source: Path
    problem: str | None = None
    size: int | None = None

    def read(self) -> bytes:
        """Return the bytes; only once, before the next member is requested. Raises DataError where they are damaged."""
        with reading_errors(self.source):
            return self.contents()


@dataclass
class Tally:
    """The members and bytes counted so far. `packed` is the size of a compressed source, in bytes.

    >>> tally = Tally(Path("flowers.tar"), ArchiveLimits(members=2))
    >>> tally.count(members=2, size=10_000)
    >>> tally.members, tally.size
    (2, 10000)
    """

    source: Path
    limits: ArchiveLimits
    packed: int | None = None
    members: int = 0
    size: int = 0

    def count(self, *, members: int = 0, size: int = 0) -> None:
        """Add to the counts; raises DataError above a limit and for a decompression bomb."""
        self.members += members
        self.size += size
        if self.members > self.limits.members:
            raise self._exceeded(f"holds more than {self.limits.members:,} files and folders", "members")
        if self.packed is not None and self.size > max(BOMB_BYTES, BOMB_RATIO * self.packed):
            raise DataError(
                f"{display_path(self.source)}: these {format_size(self.packed)} unpack to more than "
                f"{format_size(BOMB_BYTES)} and {BOMB_RATIO} times their size, which only a decompression "
                "bomb does; if you trust it, unpack it and give the folder"
            )
        if self.size > self.limits.unpacked_bytes:
            limit = f"{format_size(self.limits.unpacked_bytes)} ({self.limits.unpacked_bytes:,} bytes)"
            raise self._exceeded(f"holds more than {limit}, unpacked", "unpacked_bytes")

    def _exceeded(self, excess: str, limit: str) -> DataError:
        return DataError(f"{display_path(self.source)}: {excess}; raise data.limits.{limit} if that is intended")


@contextmanager
def reading_errors(source: Path) -> Iterator[None]:
    """Translate what the readers raise for damaged bytes to a DataError of one line."""
    try:
        yield
    except DataError:
        raise
    except DAMAGED as error:
        reason = printable(str(error)) or "it ends early"
        raise DataError(f"{display_path(source)}: damaged or cut short ({reason}); get a fresh copy") from error


def normalize_name(name: str) -> str:
    """Return a name with folders separated by single slashes, and no `.` among them.

    >>> normalize_name("rose\\\\./1.jpg")
    'rose/1.jpg'
    """
    # Zips of older Windows tools separate folders by backslashes.
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def name_problem(name: str) -> str | None:
    """Return why an entry with this normalized name is skipped; None where it is not."""
    if len(name) > MAX_NAME:
        return f"its name is longer than {MAX_NAME:,} characters"
    if UNDECODED.search(name):
        return "its name is not UTF-8"
    if CONTROL.search(name):
        return "its name contains control characters: rename it"
    if name in ("", "."):
        return "it has no name"
    if name.startswith("/") or DRIVE.match(name) or ".." in name.split("/"):
        return "its name leads out of the archive"
    return None


def size_problem(size: int, limits: ArchiveLimits) -> str | None:
    """Return why an entry of this many bytes is skipped; None where it is not."""
    if size > limits.member_bytes:
        return f"larger than {format_size(limits.member_bytes)} (data.limits.member_bytes)"
    return None
