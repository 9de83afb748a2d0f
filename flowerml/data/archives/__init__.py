"""Folders, tar and zip archives, read member by member and in order, never unpacked to disk."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
    name_problem,
    reading_errors,
    size_problem,
)

__all__ = ["ArchiveLimits", "Member", "members", "write_tar"]

START = 1024  # bytes that identify the kind
UNSUPPORTED = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\x1f\x9d": "a compress archive (.Z)",
    b"\x04\x22\x4d\x18": "an lz4 archive",
    b"LZIP": "an lzip archive",
}
PAGES = (b"<!doctype html", b"<html")


def members(path: Path, limits: ArchiveLimits = DEFAULT_LIMITS) -> Iterator[Member]:
    """Yield the files of a folder, a tar (plain, gz, bz2, xz) or a zip; the kind is identified by its content.

    A folder's files are sorted by name, an archive's are in its own order. A member can be read only once, before the
    next one is requested. Raises DataError for a source that is missing, damaged, above the limits or of another kind.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        start = _start(path) if kind == stat.S_IFREG else b""  # opening a pipe would wait for its other end
    except FileNotFoundError:
        raise DataError(f"{display_path(path)}: no such file or folder") from None
    except OSError as error:
        raise DataError(f"{printable(str(path))}: cannot be read ({error.strerror}); check its permissions") from None
    with reading_errors(path):
        if kind == stat.S_IFDIR:
            yield from _folder(path, limits)
        elif kind != stat.S_IFREG:
            raise DataError(f"{display_path(path)}: expected a folder or a file, found a pipe, socket or device")
        elif start.startswith(zips.STARTS):
            yield from zips.read(path, start, limits)
        elif is_packed(start) or tars.is_tar(start):
            yield from tars.read(path, limits)
        elif _ends_like_a_zip(path, start):
            yield from zips.read(path, start, limits)
        else:
            raise _unsupported(path, start)


def write_tar(path: Path, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar of (name, content) atomically; its bytes depend on nothing else."""
    with files.replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in contents:
            entry = tarfile.TarInfo(name)  # with owner 0, and a time in 1970
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START)


def _ends_like_a_zip(path: Path, start: bytes) -> bool:
    # A zip may follow a program that unpacks it. An archive of another kind may end with a zip that it contains.
    return not start.startswith(tuple(UNSUPPORTED)) and zipfile.is_zipfile(path)


def _unsupported(path: Path, start: bytes) -> DataError:
    if not start:
        return DataError(f"{display_path(path)}: is empty (0 bytes); get a fresh copy")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(PAGES):
        return DataError(
            f"{display_path(path)}: a web page, not an archive; open its link in a browser to see what it asks for"
        )
    for magic, kind in UNSUPPORTED.items():
        if start.startswith(magic):
            return DataError(f"{display_path(path)}: {kind} is not supported; unpack it, or pack it as .tar.gz or .zip")
    return DataError(f"{display_path(path)}: expected a folder, a tar or a zip archive, found a file of another kind")


def _folder(root: Path, limits: ArchiveLimits) -> Iterator[Member]:
    tally = Tally(root, limits)
    real = os.path.realpath(root)
    folders = [_Folder(str(root), (real,))]
    while folders:
        files, inner = _scan(folders.pop(), real, tally)
        for name, problem in files:
            yield _file(root, Path(name), problem, tally)
        folders += reversed(inner)


class _Folder(NamedTuple):
    """A folder to read, and where it and the folders around it really are, through links."""

    path: str
    real: tuple[str, ...]


def _scan(folder: _Folder, root: str, tally: Tally) -> tuple[list[tuple[str, str | None]], list[_Folder]]:
    """Return the files of a folder as (path, problem), and its folders, each sorted. `root` is the source's real path.

    Links to folders inside the source count as folders; others are among the files, with a problem.
    """
    files: list[tuple[str, str | None]] = []
    inner: list[_Folder] = []
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                tally.count(members=1)
                if entry.is_dir(follow_symlinks=False):
                    inner.append(_Folder(entry.path, (*folder.real, f"{folder.real[-1]}/{entry.name}")))
                elif not (entry.is_symlink() and Path(entry.path).is_dir()):  # entry.is_dir() fails at a link to itself
                    files.append((entry.path, None))
                elif problem := _link_problem(target := os.path.realpath(entry.path), root, folder.real):
                    files.append((entry.path, problem))
                else:
                    inner.append(_Folder(entry.path, (*folder.real, target)))
    except OSError as error:
        raise DataError(
            f"{printable(folder.path)}: this folder cannot be read ({error.strerror}); check its permissions"
        ) from None
    return sorted(files), sorted(inner)


def _link_problem(target: str, root: str, around: Collection[str]) -> str | None:
    """Return why a link to the folder `target` is not followed; None where it stays in the source, without a cycle."""
    if os.path.commonpath([root, target]) != root:
        # DVC would not notice a change there, and a stranger's folder could hand out any file of its reader.
        return f"a link to a folder outside the source, {printable(target)}: copy or move that folder here"
    if target in around or any(real.startswith(f"{target}/") for real in around):
        return "a link to a folder that it is in itself: remove it"
    return None


def _file(root: Path, path: Path, problem: str | None, tally: Tally) -> Member:
    name = path.relative_to(root).as_posix()
    size, problem = 0, name_problem(name) or problem
    try:
        status = path.stat()
    except OSError as error:
        problem = problem or f"a broken link, or deleted meanwhile ({error.strerror})"
    else:
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        problem = problem or _kind_problem(status.st_mode) or size_problem(size, tally.limits)
    tally.count(size=size)
    return Member(name, partial(_contents, path, size), root, problem, size)


def _kind_problem(mode: int) -> str | None:
    return None if stat.S_ISREG(mode) else "not a regular file"


def _contents(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(size + 1)
    except OSError as error:
        raise DataError(
            f"{printable(str(path))}: cannot be read ({error.strerror}); check the file, then re-run the command"
        ) from None
    if len(content) != size:
        raise DataError(
            f"{printable(str(path))}: changed while it was read; re-run the command when it no longer changes"
        )
    return content
