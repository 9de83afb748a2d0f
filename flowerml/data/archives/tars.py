"""A tar, read front to back.

tarfile decodes each header, but does not walk from one to the next: its own walk (`r|`) ends silently at a damaged
header and at a cut between members (test_every_cut_raises_an_error, test_tar_without_end_mark_is_damaged in
tests/data), loops on negative sizes, and reads headers of any size into memory. libarchive-c
would read 7z and rar too, but needs the C library.
"""

import io
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from flowerml.core.display import display_path, format_size
from flowerml.core.errors import DataError
from flowerml.data.archives.decompress import PIECE, Unpacked, is_packed
from flowerml.data.archives.members import ArchiveLimits, Member, Tally, name_problem, normalize_name, size_problem

HEADER_BYTES = 2**20  # of one extended header: long names, and what systems store beside a file
ZEROS = bytes(tarfile.BLOCKSIZE)
PAX_KEYS = {b"path": "path", b"GNU.sparse.name": "path", b"size": "size"}
EXTENDED = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
IGNORED = (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)  # hold nothing needed here


def is_tar(start: bytes) -> bool:
    """Return whether a file that starts with these 512 bytes or more is an uncompressed tar, even empty or damaged."""
    if start[257:262] == b"ustar" or start[: len(ZEROS)] == ZEROS:
        return True
    try:
        return bool(tarfile.TarInfo.frombuf(start[: len(ZEROS)], "utf-8", "surrogateescape"))
    except tarfile.TarError:
        return False


def read(path: Path, limits: ArchiveLimits) -> Iterator[Member]:
    """Yield the members of a plain or compressed tar, without directories."""
    with path.open("rb") as file:
        if not is_packed(file.peek(tarfile.BLOCKSIZE)):
            yield from _members(_Stream(file, Tally(path, limits)))
            return
        unpacked = Unpacked(file)
        if not is_tar(unpacked.peek(tarfile.BLOCKSIZE)):
            raise DataError(
                f"{display_path(path)}: compressed, but not a tar inside; expected a folder, a .tar (or .tar.gz, "
                ".tar.bz2, .tar.xz) or a .zip"
            )
        tally = Tally(path, limits, packed=path.stat().st_size)
        yield from _members(_Stream(io.BufferedReader(unpacked, PIECE), tally))


class _Stream:
    """The bytes of a tar, read or skipped in steps; each step is counted against the limits before it is read."""

    def __init__(self, file: BinaryIO, tally: Tally) -> None:
        self._file, self.tally = file, tally
        self._length = file.seek(0, io.SEEK_END) if file.seekable() else None
        if self._length is not None:
            file.seek(0)
        self.position = 0

    def read(self, size: int) -> bytes:
        self._advance(size)
        content = self._file.read(size)
        if len(content) != size:
            raise tarfile.ReadError("it ends early")
        return content

    def skip(self, size: int) -> None:
        self._advance(size)
        if self._length is not None:
            self._file.seek(size, io.SEEK_CUR)
            return
        while size:
            content = self._file.read(min(size, PIECE))
            if not content:
                raise tarfile.ReadError("it ends early")
            size -= len(content)

    def rest(self) -> Iterator[bytes]:
        while content := self._file.read(PIECE):
            self.tally.count(size=len(content))
            yield content

    def _advance(self, size: int) -> None:
        if size < 0:
            raise tarfile.ReadError("a negative size")
        self.position += size
        if self._length is not None and self.position > self._length:
            raise tarfile.ReadError("it ends early")
        self.tally.count(size=size)


def _members(stream: _Stream) -> Iterator[Member]:
    tally = stream.tally
    for entry in _entries(stream):
        tally.count(members=1)
        start = stream.position
        if not entry.isdir():
            contents = partial(_contents, stream, start, entry.size)
            name = normalize_name(entry.name)
            problem = name_problem(name) or _problem(entry, tally.limits)
            yield Member(name, contents, tally.source, problem, entry.size)
        stream.skip(start + _blocks(entry.size) - stream.position)
    if any(content != bytes(len(content)) for content in stream.rest()):
        raise tarfile.ReadError("data after its end mark; only the first of several tars in one file is read")


def _problem(entry: tarfile.TarInfo, limits: ArchiveLimits) -> str | None:
    if "sparse" in entry.pax_headers:
        return "a sparse file: pack it without --sparse"
    return size_problem(entry.size, limits) or (None if entry.isreg() else "a link or device")


def _contents(stream: _Stream, start: int, size: int) -> bytes:
    assert stream.position == start, "a member is read once, before the next one is requested"
    return stream.read(size)


def _entries(stream: _Stream) -> Iterator[tarfile.TarInfo]:
    """Yield the headers up to the end mark, with the names and sizes of extended headers; the data follows each."""
    extended: dict[str, str] = {}
    while (block := stream.read(tarfile.BLOCKSIZE)) != ZEROS:
        entry = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if entry.type in IGNORED:
            stream.skip(_blocks(entry.size))
        elif entry.type == tarfile.GNUTYPE_LONGNAME:
            extended["path"] = _text(_header(stream, entry.size).partition(b"\0")[0])
        elif entry.type in EXTENDED:
            extended |= _pax(_header(stream, entry.size))
        else:
            if entry.type == tarfile.GNUTYPE_SPARSE:
                extended["sparse"] = ""
                _skip_sparse_map(stream, block)
            yield _completed(entry, extended)
            extended = {}


def _completed(entry: tarfile.TarInfo, extended: dict[str, str]) -> tarfile.TarInfo:
    entry.name = extended.get("path", entry.name)
    entry.size = _number(extended["size"]) if "size" in extended else entry.size
    if not entry.isreg() and entry.type in tarfile.SUPPORTED_TYPES:
        entry.size = 0  # links, directories and devices have no data, whatever their headers say
    entry.pax_headers = extended
    return entry


def _pax(content: bytes) -> dict[str, str]:
    """Return the needed fields of a pax header: records of `<length> <key>=<value>`, each ended by a newline."""
    fields = {}
    start, end = 0, len(content.rstrip(b"\0"))
    while start < end:
        length = _number(_text(content[start : start + 20].partition(b" ")[0]))
        key, equals, value = content[start : start + length - 1].partition(b" ")[2].partition(b"=")
        if not equals or not 0 < length <= end - start:
            raise tarfile.ReadError("an invalid extended header")
        if key.startswith(b"GNU.sparse."):
            fields["sparse"] = ""
        if key in PAX_KEYS:
            fields[PAX_KEYS[key]] = _text(value)
        start += length
    return fields


def _header(stream: _Stream, size: int) -> bytes:
    if size > HEADER_BYTES:
        raise tarfile.ReadError(f"an extended header of {format_size(size)}")
    content = stream.read(size)
    stream.skip(_blocks(size) - size)
    return content


def _skip_sparse_map(stream: _Stream, block: bytes) -> None:
    more = block[482]
    while more:
        more = stream.read(tarfile.BLOCKSIZE)[504]


def _blocks(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise tarfile.ReadError("an invalid number")
    return int(text)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
