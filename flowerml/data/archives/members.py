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
BOMB_RATIO = 200  # flat drawings and machine-made texts come to 100; deflate could do 1,032, bzip2 45,000
LONGEST_NAME = 4096
UNDECODED = re.compile("[\ud800-\udfff]")  # bytes of a name that are no UTF-8, as Python keeps them
CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")  # and the two other ends of a line
DRIVE = re.compile("[A-Za-z]:/")
# What the readers raise over damaged bytes: NotImplementedError for a zip of a later version.
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError),
    *(NotImplementedError, UnicodeDecodeError),
)


@dataclass(frozen=True)
class ArchiveLimits:
    """What a source may hold at most; a bomb or a mistake ends with an error instead of a full disk or memory."""

    members: int = 2_000_000  # entries, directories included
    member_bytes: int = 256 * 2**20  # of one entry, unpacked; a larger one is left out and listed
    unpacked_bytes: int = 256 * 2**30  # of all entries together


DEFAULT_LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Member:
    """One entry of a folder or archive; `problem` says why it must not be read."""

    name: str
    contents: Callable[[], bytes]
    source: Path
    problem: str | None = None

    def read(self) -> bytes:
        """The bytes of this entry; once, before the next one is asked for. Raises DataError where it is damaged."""
        with damage_told(self.source):
            return self.contents()


@dataclass
class Tally:
    """What a source has turned out to hold so far; `packed` is the size of a compressed one, in bytes."""

    source: Path
    limits: ArchiveLimits
    packed: int | None = None
    members: int = 0
    size: int = 0

    def add(self, *, members: int = 0, size: int = 0) -> None:
        """Count some more; raises DataError above a limit, and where it unpacks as only a decompression bomb does."""
        self.members += members
        self.size += size
        if self.members > self.limits.members:
            raise self._refused(f"holds more than {self.limits.members:,} files and folders", "members")
        if self.packed is not None and self.size > max(BOMB_BYTES, BOMB_RATIO * self.packed):
            raise DataError(
                f"{display_path(self.source)}: these {format_size(self.packed)} unpack to more than "
                f"{format_size(BOMB_BYTES)} and {BOMB_RATIO} times their size, as a decompression bomb does and "
                "pictures and texts do not; if you trust it, unpack it and give the folder"
            )
        if self.size > self.limits.unpacked_bytes:
            limit = f"{format_size(self.limits.unpacked_bytes)} ({self.limits.unpacked_bytes:,} bytes)"
            raise self._refused(f"holds more than {limit}, unpacked", "unpacked_bytes")

    def _refused(self, found: str, limit: str) -> DataError:
        return DataError(f"{display_path(self.source)}: {found}; raise data.limits.{limit} if that is meant")


@contextmanager
def damage_told(source: Path) -> Iterator[None]:
    """Whatever a reader raises over damaged bytes becomes a DataError of one line."""
    try:
        yield
    except DataError:
        raise
    except DAMAGED as error:
        reason = printable(str(error)) or "it ends early"
        raise DataError(f"{display_path(source)}: damaged or cut short ({reason}); get a fresh copy") from error


def normal(name: str) -> str:
    """A name as this package knows it: folders separated by single slashes, no `.` among them."""
    # Zips made by older Windows tools separate folders by backslashes.
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def name_problem(name: str) -> str | None:
    """Why an entry of this (normal) name is left out: it leads elsewhere, or cannot be shown, typed or stored."""
    if len(name) > LONGEST_NAME:
        return f"its name is longer than {LONGEST_NAME:,} characters"
    if UNDECODED.search(name):
        return "its name is not UTF-8"
    if CONTROL.search(name):
        return "its name holds control characters: rename it"
    if name in ("", "."):
        return "it has no name"
    if name.startswith("/") or DRIVE.match(name) or ".." in name.split("/"):
        return "its name leads out of the archive"
    return None


def size_problem(size: int, limits: ArchiveLimits) -> str | None:
    """Why an entry of this many bytes is left out."""
    if size > limits.member_bytes:
        return f"larger than {format_size(limits.member_bytes)} (data.limits.member_bytes)"
    return None
