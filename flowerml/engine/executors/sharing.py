"""Files that workers need: used where they are, if a worker sees the same ones there, else copied once a machine."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowerml.core.errors import DataError, FlowermlError

CHUNK = 16 * 2**20  # bytes in one message
PREFIX = "flowerml-workers-"
LOCK = "in-use.lock"


@dataclass(frozen=True)
class Member:
    """A file of what is shared: its name below the shared path ('' for a file that is itself shared)."""

    name: str
    bytes: int
    digest: str


@dataclass(frozen=True)
class Shared:
    """A file or folder that a worker can read, made by `Pool.share`; an argument of a factory or a method."""

    source: str
    members: tuple[Member, ...] | None  # None: on this machine, where the path is enough

    def path(self) -> Path:
        """Return where it lies for this process; raises FlowermlError where it has not been brought here."""
        if self.members is None:
            return Path(self.source)
        try:
            return _places[self.key]
        except KeyError:
            raise FlowermlError(
                f"{self.source}: has not been brought to this worker; share files before the worker is started"
            ) from None

    @property
    def key(self) -> str:
        """Return a digest of the path, the names and the contents."""
        return hashlib.sha256(repr((self.source, self.members)).encode()).hexdigest()[:24]


_places: dict[str, Path] = {}
"""Where each shared thing lies for this process, by its key."""


def shared(path: Path) -> Shared:
    """Return a file or folder with its digests, for workers on other machines; raises DataError without it."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 — Path.resolve would follow links that only this machine has
    if not path.exists():
        raise DataError(f"{path}: expected a file or folder for the workers; there is none")
    return Shared(str(path), tuple(_member(path, file) for file in _files(path)))


def chunks(item: Shared, member: Member) -> Iterator[bytes]:
    """Yield a file's content in parts; raises DataError where it has changed since it was shared."""
    digest = hashlib.sha256()
    with _below(Path(item.source), member.name).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != member.digest:
        raise DataError(f"{_below(Path(item.source), member.name)}: changed while workers read it; re-run the command")


class Copies:
    """The shared things of one worker. Copies lie in one private folder a machine, for all workers of a pool.

    Each worker holds the system's lock on it as long as it lives. The last one removes it; what a killed one left is
    removed by the next pool of this user on the machine.
    """

    def __init__(self, token: str, root: Path | None = None) -> None:
        self._root = Path(tempfile.gettempdir()) if root is None else root
        self._folder = self._root / f"{PREFIX}{token}"
        self._lock: int | None = None

    def find(self, item: Shared) -> bool:
        """Return whether this worker sees a shared thing, at its own path or as a copy."""
        own = Path(item.source)
        for place in (own, self._folder / item.key / "whole"):
            if item.members is None or _is_same(place, item.members, contents=place == own):
                _places[item.key] = place
                return True
        return False

    def write(self, item: Shared, member: Member, offset: int, content: bytes) -> None:
        """Write a part of a copy; parts come in order."""
        path = _below(self._new(item), member.name)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(content)

    def finish(self, item: Shared) -> None:
        """Take a copy into use once all its parts are there; raises DataError where it is not the original."""
        assert item.members is not None, "only what has digests is copied"
        new = self._new(item)
        new.mkdir(parents=True, exist_ok=True, mode=0o700)  # an empty folder
        if not _is_same(new, item.members, contents=True):
            raise DataError(f"{item.source}: its copy on a worker differs from it; re-run the command")
        new.rename(new.with_name("whole"))
        _places[item.key] = new.with_name("whole")

    def remove(self) -> None:
        """Let the folder go; the last worker that does removes it."""
        if self._lock is None:
            return
        import fcntl

        with suppress(OSError):  # another worker still uses it
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def _new(self, item: Shared) -> Path:
        if self._lock is None:
            self._remove_leftovers()
            with suppress(FileExistsError):
                self._folder.mkdir(mode=0o700)
        self.hold()
        folder = self._folder / item.key
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder / "new"

    def hold(self) -> None:
        """Lock the folder if there is one, so that nobody removes it while this worker lives."""
        if self._lock is None and self._folder.is_dir():
            import fcntl

            status = self._folder.lstat()
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise FlowermlError(f"{self._folder}: expected a private folder of this user; remove it")
            self._lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _remove_leftovers(self) -> None:
        import fcntl

        for folder in self._root.glob(f"{PREFIX}*"):
            try:
                if folder == self._folder or folder.lstat().st_uid != os.getuid():
                    continue
                lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                pass  # its workers live
            finally:
                os.close(lock)


def _files(path: Path) -> list[Path]:
    """Return the files of a folder in a fixed order, or the file itself."""
    if path.is_file():
        return [path]
    return sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)


def _member(root: Path, file: Path) -> Member:
    name = "" if file == root else PurePosixPath(file.relative_to(root)).as_posix()
    return Member(name, file.stat().st_size, _digest(file))


def _below(root: Path, name: str) -> Path:
    return root / name if name else root


def _is_same(root: Path, members: tuple[Member, ...], *, contents: bool) -> bool:
    """Return whether the same files lie below another root; sizes first, as a digest reads the whole file."""
    try:
        files = _files(root) if root.exists() else None
        if files is None or len(files) != len(members):
            return False
        if any(_below(root, member.name).stat().st_size != member.bytes for member in members):
            return False
        return not contents or all(_digest(_below(root, member.name)) == member.digest for member in members)
    except OSError:
        return False


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
