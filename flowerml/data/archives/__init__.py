"""Reading folders, tar and zip archives member by member, in order and without ever unpacking to disk."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from flowerml.core import files
from flowerml.core.display import display_path, printable
from flowerml.core.errors import DataError
from flowerml.data.archives import tars, zips
from flowerml.data.archives.decompress import is_packed
from flowerml.data.archives.members import (
    DEFAULT_LIMITS,
    ArchiveLimits,
    Member,
    Tally,
    damage_told,
    name_problem,
    size_problem,
)

__all__ = ["ArchiveLimits", "Member", "members", "write_tar"]

START = 1024  # bytes that tell kinds apart
NOT_READ = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\x1f\x9d": "a compress archive (.Z)",
    b"\x04\x22\x4d\x18": "an lz4 archive",
    b"LZIP": "an lzip archive",
}
PAGES = (b"<!doctype html", b"<html")


def members(path: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> Iterator[Member]:
    """The entries of a folder or of a tar (plain, gz, bz2, xz) or zip, told apart by content.

    A folder's come sorted by name, an archive's in its own order; directories are left out. A member can be read
    once, before the next one is asked for. Raises DataError for what is missing, damaged, above the limits or of
    another kind.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        start = _start(path) if kind == stat.S_IFREG else b""  # opening a pipe would wait for its other end
    except FileNotFoundError:
        raise DataError(f"{display_path(path)}: no such file or folder") from None
    except OSError as error:
        raise DataError(
            f"{printable(str(path))}: cannot be read ({error.strerror}); give yourself access to it"
        ) from None
    with damage_told(path):
        if kind == stat.S_IFDIR:
            yield from _folder(path, limits)
        elif kind != stat.S_IFREG:
            raise DataError(
                f"{display_path(path)}: neither a folder nor a file that could be read; expected one of these"
            )
        elif start.startswith(zips.STARTS):
            yield from zips.read(path, start, limits)
        elif is_packed(start) or tars.is_tar(start):
            yield from tars.read(path, limits)
        elif _ends_like_a_zip(path, start):
            yield from zips.read(path, start, limits)
        else:
            raise _of_another_kind(path, start)


def write_tar(path: Path, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar of (name, content), whole or not at all; its bytes depend on them alone."""
    with files.replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in contents:
            entry = tarfile.TarInfo(name)  # its owner is 0 and its time 1970
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START)


def _ends_like_a_zip(path: Path, start: bytes) -> bool:
    # Behind a program that unpacks it. An archive of another kind may end with a zip it holds.
    return not start.startswith(tuple(NOT_READ)) and zipfile.is_zipfile(path)


def _of_another_kind(path: Path, start: bytes) -> DataError:
    if not start:
        return DataError(f"{display_path(path)}: is empty (0 bytes); get a fresh copy")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(PAGES):
        return DataError(
            f"{display_path(path)}: a web page, not an archive: open its link in a browser to see what it asks"
        )
    for magic, kind in NOT_READ.items():
        if start.startswith(magic):
            return DataError(f"{display_path(path)}: {kind} is not read: unpack it, or pack it as .tar.gz or .zip")
    return DataError(f"{display_path(path)}: neither a folder nor a tar or zip archive; expected one of these")


def _folder(root: Path, limits: ArchiveLimits) -> Iterator[Member]:
    tally = Tally(root, limits)
    waiting = [str(root)]
    while waiting:
        # What links to a folder is among the files, so that it is told of and not followed.
        names, inner = _listed(waiting.pop(), tally)
        for name in names:
            yield _file(root, Path(name), tally)
        waiting += reversed(inner)


def _listed(folder: str, tally: Tally) -> tuple[list[str], list[str]]:
    """The paths of files and of folders in this one, each sorted."""
    names: list[str] = []
    inner: list[str] = []
    try:
        with os.scandir(folder) as found:
            for entry in found:
                tally.add(members=1)
                (inner if entry.is_dir(follow_symlinks=False) else names).append(entry.path)
    except OSError as error:
        raise DataError(
            f"{printable(folder)}: this folder cannot be read ({error.strerror}); give yourself access to it"
        ) from None
    return sorted(names), sorted(inner)


def _file(root: Path, path: Path, tally: Tally) -> Member:
    name = path.relative_to(root).as_posix()
    size, problem = 0, name_problem(name)
    try:
        status = path.stat()
    except OSError as error:
        problem = problem or f"a link that leads nowhere, or gone ({error.strerror})"
    else:
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        problem = problem or _kind_problem(status.st_mode) or size_problem(size, tally.limits)
    tally.add(size=size)
    return Member(name, partial(_contents, path, size), root, problem)


def _kind_problem(mode: int) -> str | None:
    if stat.S_ISDIR(mode):
        return "a link to a folder is not followed: put the folder itself there"
    return None if stat.S_ISREG(mode) else "not a regular file"


def _contents(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(size + 1)
    except OSError as error:
        raise DataError(
            f"{printable(str(path))}: cannot be read ({error.strerror}); see to it, and run again"
        ) from None
    if len(content) != size:
        raise DataError(f"{printable(str(path))}: has changed while it was read; run again when it is at rest")
    return content
