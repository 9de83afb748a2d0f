"""Reading folders, tar and zip archives member by member, in order and without ever unpacking to disk."""

import io
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from flowerml import files
from flowerml.errors import DataError

MAX_MEMBER_BYTES = 256 * 2**20
# What the readers raise: NotImplementedError for a zip's rarer compressions, UnicodeDecodeError for a damaged name.
DAMAGED = (
    *(tarfile.ReadError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError),
    *(NotImplementedError, UnicodeDecodeError),
)


@dataclass(frozen=True)
class Member:
    """One entry of a folder or archive; `problem` says why it must not be read."""

    name: str
    contents: Callable[[], bytes]
    source: Path
    problem: str | None = None

    def read(self) -> bytes:
        """The bytes of this entry; raises DataError where the archive is damaged."""
        try:
            return self.contents()
        except DAMAGED as error:
            raise _damaged(self.source, error) from error


def members(path: Path) -> Iterator[Member]:
    """The entries of a folder or of a tar (plain, gz, bz2, xz) or zip, told apart by content.

    A folder's come sorted by name, an archive's in its own order; directories are left out. A member's `read`
    works until the next one is asked for. Raises DataError for what is missing, damaged or of another kind.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_dir():
        yield from _folder(path)
        return
    try:
        # A zip is known by its end: a tar with a zip inside would pass for one.
        if tarfile.is_tarfile(path):
            yield from _tar(path)
        elif zipfile.is_zipfile(path):
            yield from _zip(path)
        else:
            raise DataError(f"{_shown(path)}: neither a folder nor a tar or zip archive; expected one of these")
    except DAMAGED as error:
        raise _damaged(path, error) from error


def write_tar(path: Path, contents: Iterable[tuple[str, bytes]]) -> None:
    """Write a tar of (name, content), whole or not at all; its bytes depend on them alone."""
    with files.replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in contents:
            entry = tarfile.TarInfo(name)  # its owner is 0 and its time 1970
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def _folder(root: Path) -> Iterator[Member]:
    for folder, inner, names in os.walk(root, onerror=_unreadable):
        inner.sort()
        links = [name for name in inner if Path(folder, name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(folder, name)
            problem = None if path.is_file() else "not a regular file"
            yield Member(path.relative_to(root).as_posix(), path.read_bytes, root, problem)


def _tar(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for entry in archive:
            if entry.isdir():
                continue
            problem = _unsafe(entry.name, entry.size) or (None if entry.isreg() else "a link or device")
            yield Member(_normal(entry.name), partial(_read_entry, archive, entry), path, problem)


def _zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            encrypted = "encrypted" if entry.flag_bits & 1 else None
            problem = _unsafe(entry.filename, entry.file_size) or encrypted
            yield Member(_normal(entry.filename), partial(archive.read, entry), path, problem)


def _unsafe(name: str, size: int) -> str | None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts:
        return "its name leads out of the archive"
    if size > MAX_MEMBER_BYTES:
        return f"larger than {MAX_MEMBER_BYTES // 2**20} MiB"
    return None


def _normal(name: str) -> str:
    # Zips made by older Windows tools separate folders by backslashes.
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _unreadable(error: OSError) -> None:
    raise DataError(f"{error.filename}: this folder cannot be read ({error.strerror}); give yourself access to it")


def _read_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(entry)
    assert opened is not None, "only regular files are read"
    return opened.read()


def _shown(path: Path) -> Path:
    # The pipeline reads through a link; people know the place it leads to.
    return path.resolve()


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{_shown(path)}: damaged or cut short ({error}); get a fresh copy")
