"""Reading a zip by its table of contents, which may lie: about sizes, about places, about how long it is itself."""

import io
import stat
import zipfile
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

from flowerml.data.archives.members import ArchiveLimits, Member, Tally, name_problem, normal, size_problem

FIRST = b"PK\x03\x04"  # what an entry begins with
STARTS = (FIRST, b"PK\x05\x06", b"PK\x07\x08")  # the others: an empty zip, one that was to be split
TABLED = b"PK\x01\x02"  # what its line in the table of contents begins with
TABLED_BYTES = 512  # that such lines have at most, all in all: 46, a name, and what systems note beside it
ENTRY_BYTES = 30  # that stand before each entry's name and content
# zipfile unpacks bzip2 and LZMA whole, whatever size was declared, and both can hide a terabyte in a member.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1 | 1 << 6  # bits of the flags
PATCHED = 1 << 5
UTF8 = 1 << 11


def read(path: Path, start: bytes, limits: ArchiveLimits) -> Iterator[Member]:
    """The members of the zip at `path`, which starts with `start`; directories are left out."""
    tally = Tally(path, limits, packed=path.stat().st_size)
    if not zipfile.is_zipfile(path):
        raise zipfile.BadZipFile("its table of contents, which stands at the end, is missing")
    with _Table(path, limits) as table, zipfile.ZipFile(table) as archive:
        table.is_read = True
        _check_places(archive, start)
        for entry in archive.infolist():
            tally.add(members=1, size=entry.file_size)
        for entry in archive.infolist():
            name = _name(entry)
            if not name.replace("\\", "/").endswith("/"):
                problem = name_problem(normal(name)) or _problem(entry, limits)
                yield Member(normal(name), partial(_contents, archive, entry), path, problem)


class _Table(io.BufferedReader):
    """A zip that refuses a table of contents above the limit of members before zipfile makes objects of it."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        super().__init__(io.FileIO(path))
        self._path, self._limits = path, limits
        self.is_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.is_read:
            return super().read(size)
        too_long = size is not None and size > max(2**20, self._limits.members * TABLED_BYTES)
        content = b"" if too_long else super().read(size)
        count = self._limits.members + 1 if too_long else content.count(TABLED)
        Tally(self._path, self._limits).add(members=count)
        return content


def _check_places(archive: zipfile.ZipFile, start: bytes) -> None:
    """Raises BadZipFile where entries share bytes, as in a bomb, or the table belongs to a zip inside this one."""
    spans = sorted((entry.header_offset, entry.compress_size) for entry in archive.infolist())
    for (offset, size), (following, _) in pairwise([*spans, (archive.start_dir, 0)]):
        if offset < 0 or offset + ENTRY_BYTES + size > following:
            raise zipfile.BadZipFile("its entries overlap")
    if start.startswith(FIRST) and (not spans or spans[0][0] != 0):
        raise zipfile.BadZipFile("its table of contents is that of another zip")


def _problem(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "a link or device"
    if entry.flag_bits & ENCRYPTED:
        return "encrypted"
    if entry.compress_type not in METHODS or entry.flag_bits & PATCHED:
        return f"compressed in a way that is not read here (method {entry.compress_type}); repack it"
    return size_problem(entry.file_size, limits)


def _contents(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as opened:
        content = opened.read(entry.file_size)
        # The second read makes zipfile compare the checksum even where nothing was declared.
        if len(content) != entry.file_size or opened.read(1):
            raise zipfile.BadZipFile("a file is not of the size its table of contents declares")
    return content


def _name(entry: zipfile.ZipInfo) -> str:
    """The entry's name; some systems (a Mac among them) write UTF-8 without saying so."""
    if entry.flag_bits & UTF8:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode()
    except UnicodeError:
        return entry.filename
