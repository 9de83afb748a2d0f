"""A folder of files, on a disk or in a bucket, whose files are written as a whole or not at all."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from flowerml.core import files
from flowerml.core.errors import DataError
from flowerml.core.locks import try_lock
from flowerml.data.download import is_url
from flowerml.pipeline.score import buckets


class Storage(Protocol):
    """A folder."""

    @property
    def place(self) -> str:
        """Return its path or address."""

    def names(self) -> list[str]:
        """Return the names of its files, sorted; of a missing folder, none."""

    def read(self, name: str) -> bytes | None:
        """Return a small file's content; None where it is missing."""

    def local(self, name: str) -> AbstractContextManager[Path]:
        """Yield the path of a file, fetched for the block where it is not on a disk."""

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a file: `write` gets a path to write to."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    def lock(self, name: str) -> AbstractContextManager[bool]:
        """Yield whether this process alone has a lock; a bucket has none, and yields True."""


@dataclass(frozen=True)
class Disk:
    """A folder on a disk; made when its first file is written."""

    place: str

    @property
    def folder(self) -> Path:
        return Path(self.place)

    def names(self) -> list[str]:
        """Return the names of its files, without those that only mark a lock or are half-written."""
        if not self.folder.exists():
            return []
        return sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))

    def read(self, name: str) -> bytes | None:
        """Return a file's content."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Yield the path of a file."""
        yield self.folder / name

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """Write a file atomically."""
        with files.replacing(self.folder / name) as temporary:
            write(temporary)

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Try to lock the folder under a name."""
        path = self.folder / f".{name}.lock"
        with try_lock(path) as is_free:
            yield is_free
            if is_free:
                path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Bucket:
    """A prefix in a bucket. An object is put as a whole, so that two commands of the same answers may both write it."""

    place: str

    def names(self) -> list[str]:
        """Return the names of the objects directly below it."""
        with buckets.errors(self.place):
            system, path = buckets.file_system(self.place)
            system.invalidate_cache()
            start = path.rstrip("/") + "/"
            below = (name.removeprefix(start) for name in system.find(path))
            return sorted(name for name in below if "/" not in name)

    def read(self, name: str) -> bytes | None:
        """Return an object."""
        with buckets.errors(self._url(name)):
            system, path = buckets.file_system(self._url(name))
            try:
                content: bytes = system.cat_file(path)
            except FileNotFoundError:
                return None
            return content

    @contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """Fetch an object for the block."""
        with TemporaryDirectory(prefix="flowerml-") as folder:
            path = Path(folder, name)
            with buckets.errors(self._url(name)):
                system, remote = buckets.file_system(self._url(name))
                system.get_file(remote, str(path))
            yield path

    def write(self, name: str, write: Callable[[Path], None]) -> None:
        """Write to a temporary file and put it."""
        with TemporaryDirectory(prefix="flowerml-") as folder:
            path = Path(folder, name)
            write(path)
            with buckets.errors(self._url(name)):
                system, remote = buckets.file_system(self._url(name))
                system.put_file(str(path), remote)

    def remove(self, name: str) -> None:
        """Remove an object."""
        with buckets.errors(self._url(name)):
            system, path = buckets.file_system(self._url(name))
            if system.exists(path):
                system.rm_file(path)

    @contextmanager
    def lock(self, name: str) -> Iterator[bool]:
        """Yield True: nothing can be locked in a bucket."""
        yield True

    def _url(self, name: str) -> str:
        return f"{self.place.rstrip('/')}/{name}"


def storage(place: str) -> Storage:
    """Return the folder at a path or an address; raises DataError where it cannot be one."""
    if is_url(place):
        if place.lower().startswith(("http://", "https://")):
            raise DataError(f"{place}: nothing can be written there; expected a file, a folder/ or s3://bucket/folder/")
        return Bucket(place)
    path = Path(place).expanduser()
    if path.exists() and not path.is_dir():
        raise DataError(f"{place}: expected a folder, found a file; choose another --out")
    return Disk(str(path))
