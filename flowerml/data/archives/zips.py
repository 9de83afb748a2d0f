"""A zip, read by its central directory, which may lie about sizes, offsets and its own length.

zipfile reads the entries. It checks none of this, so most of this module serves to refuse decompression bombs.
"""

import io
import stat
import zipfile
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

from flowerml.data.archives.members import ArchiveLimits, Member, Tally, name_problem, normalize_name, size_problem

FIRST = b"PK\x03\x04"  # an entry
STARTS = (FIRST, b"PK\x05\x06", b"PK\x07\x08")  # the others: an empty zip, and one meant to be split
RECORD = b"PK\x01\x02"  # an entry's record in the central directory
RECORD_BYTES = 512  # of a record at most: 46, a name, and what systems store beside it
ENTRY_BYTES = 30  # of an entry's header, before its name and content
# zipfile unpacks bzip2 and LZMA whole, whatever the declared size, and both can hide a terabyte in a member.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1 | 1 << 6  # flag bits
PATCHED = 1 << 5
UTF8 = 1 << 11


def read(path: Path, start: bytes, limits: ArchiveLimits) -> Iterator[Member]:
    """Yield the members of the zip at `path`, whose first bytes are `start`, without directories."""
    tally = Tally(path, limits, packed=path.stat().st_size)
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("its central directory, at the end, is missing")
    with _LimitedReader(path, limits) as reader, zipfile.ZipFile(reader) as archive:
        reader.directory_is_read = True
        _check_offsets(archive, start)
        for entry in archive.infolist():
            tally.count(members=1, size=entry.file_size)
        for entry in archive.infolist():
            name = _name(entry)
            if not name.replace("\\", "/").endswith("/"):
                problem = name_problem(normalize_name(name)) or _problem(entry, limits)
                contents = partial(_contents, archive, entry)
                yield Member(normalize_name(name), contents, path, problem, entry.file_size)


class _LimitedReader(io.BufferedReader):
    """A zip file that refuses a central directory above the limit of members, before zipfile makes objects of it."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        super().__init__(io.FileIO(path))
        self._path, self._limits = path, limits
        self.directory_is_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.directory_is_read:
            return super().read(size)
        too_long = size is not None and size > max(2**20, self._limits.members * RECORD_BYTES)
        content = b"" if too_long else super().read(size)
        count = self._limits.members + 1 if too_long else content.count(RECORD)
        Tally(self._path, self._limits).count(members=count)
        return content


def _check_offsets(archive: zipfile.ZipFile, start: bytes) -> None:
    """Raise BadZipFile where entries overlap, as in a bomb, or the directory is that of a zip inside this one."""
    spans = sorted((entry.header_offset, entry.compress_size) for entry in archive.infolist())
    for (offset, size), (following, _) in pairwise([*spans, (archive.start_dir, 0)]):
        if offset < 0 or offset + ENTRY_BYTES + size > following:
            raise zipfile.BadZipFile("its entries overlap")
    if start.startswith(FIRST) and (not spans or spans[0][0] != 0):
        raise zipfile.BadZipFile("its central directory is that of another zip")


def _problem(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "a link or device"
    if entry.flag_bits & ENCRYPTED:
        return "encrypted"
    if entry.compress_type not in METHODS or entry.flag_bits & PATCHED:
        return f"compressed by an unsupported method ({entry.compress_type}); repack it"
    return size_problem(entry.file_size, limits)


def _contents(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as opened:
        content = opened.read(entry.file_size)
        # The second read makes zipfile compare the checksum even where the declared size is 0.
        if len(content) != entry.file_size or opened.read(1):
            raise zipfile.BadZipFile("a file is not of the size that its central directory declares")
    return content


def _name(entry: zipfile.ZipInfo) -> str:
    """Return an entry's name. Some systems (macOS among them) write UTF-8 without setting its flag."""
    if entry.flag_bits & UTF8:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode()
    except UnicodeError:
        return entry.filename
