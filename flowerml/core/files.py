"""Atomic writes: nothing half-written ever stands under its final name, and no reader sees parts of two versions."""

import errno
import glob
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flowerml.core.errors import FlowermlError
from flowerml.core.exchange import exchange
from flowerml.core.regular import read_regular

if TYPE_CHECKING:
    import pandas as pd

R = TypeVar("R")

FORMER = "former.tmp"  # the suffix of a version that was moved aside
MAX_JSON = 2**30  # bytes
RACES = 100  # with other writers or readers of the same path; each takes milliseconds
MOVING = 2.0  # seconds; a live process needs microseconds between the two renames of a folder
CANNOT_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}

_numbers = count()
_own: set[str] = set()
"""The names of the temporary paths that this process uses. Others under its id are leftovers: ids are reused."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; if the block succeeds, its file or folder replaces `target`.

    The replacement is one step: at any moment, also after a kill or a loss of power, `target` is the old or the new
    one, whole and flushed to disk. Where the system cannot swap folders (see `exchange`), a folder is missing for the
    instant between two renames; if the process is killed in it, `recover` moves the former one back. If the block or
    the replacement fails, `target` stays as it was.

    A `target` that is a symbolic link is replaced, not followed. Leftovers of killed processes beside `target` are
    removed. An OSError without a file name gets the name of `target`. Files that only their owner may read, as
    safetensors and `tempfile` write them, get the mode of any new file.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp(), "numbers.txt")
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    _remove_leftovers(target)
    name = f".{target.name}.{os.getpid()}.{next(_numbers)}"
    temporary, former = target.with_name(f"{name}.tmp"), target.with_name(f"{name}.{FORMER}")
    _own.update((temporary.name, former.name))
    try:
        yield temporary
        _open_to_readers(temporary, target.with_name(f"{name}.mode.tmp"))
        _sync(temporary)
        _put_in_place(temporary, target, former)
        _sync_folder(target.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(target)
        raise
    finally:
        try:
            _move_back(former, target)
            remove(temporary)
            remove(former)
        finally:
            _own.difference_update((temporary.name, former.name))


def _put_in_place(temporary: Path, target: Path, former: Path) -> None:
    """Rename `temporary` to `target`; what was there ends as `temporary` or as `former`."""
    if not _is_folder(temporary) and not _is_folder(target):
        temporary.replace(target)
        return
    for _ in range(RACES):
        try:
            if os.path.lexists(target):
                if exchange(temporary, target):
                    return
                target.rename(former)
            temporary.rename(target)  # of a folder: fails if another one is there
            return
        except FileNotFoundError:  # another process is replacing it
            if not os.path.lexists(temporary):
                raise
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
                raise
            _give_way(former, target)
    raise OSError(errno.EBUSY, "other processes keep replacing it", str(target))


def _give_way(former: Path, target: Path) -> None:
    """Remove our `former` version after another process has put a version in place."""
    if os.path.lexists(target):
        remove(former)


def recover(target: Path) -> None:
    """Move the former version back if `target` is missing because a process was killed while it replaced the folder.

    This can only happen where the system cannot swap folders. A process that is alive is given MOVING seconds to
    finish. Without the right to rename, nothing happens.
    """
    deadline = time.monotonic() + MOVING
    while not os.path.lexists(target) and (candidates := _former_versions(target)):
        newest = candidates[-1]
        if not _is_in_use(newest, target) or time.monotonic() > deadline:
            with suppress(OSError):
                _move_back(newest, target)
            return
        time.sleep(0.001)


def _former_versions(target: Path) -> list[Path]:
    """Return the versions that were moved aside, the oldest first."""
    changed: list[tuple[int, Path]] = []
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.{FORMER}"):
        with suppress(FileNotFoundError):
            changed.append((path.lstat().st_ctime_ns, path))
    return [path for _, path in sorted(changed)]


def _move_back(former: Path, target: Path) -> None:
    """Rename `former` to `target` unless there is one."""
    if os.path.lexists(former) and not os.path.lexists(target):
        with suppress(FileNotFoundError):  # another process has moved it
            former.rename(target)


def read_version(folder: Path, read: Callable[[], R]) -> R:
    """Return what `read` returns; call it again if the folder was replaced meanwhile.

    So the files that `read` opens below `folder`, by its path, are of one version. Its errors are raised only if they
    are not due to a replacement.

    Not a lock, which a reader would need the right to write for; not a descriptor to read relative to, since the
    writer deletes the former version.
    """
    for _ in range(RACES):
        recover(folder)
        try:
            # While it is open, no other folder gets its number.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            if missing and (_former_versions(folder) or folder.is_dir()):  # the instant between two renames
                continue
            return read()  # which knows how to report it
        try:
            result = read()
            if is_at(descriptor, folder):
                return result
        except Exception:  # files of two versions may make `read` raise anything; of one version, it is raised
            if is_at(descriptor, folder):
                raise
        finally:
            os.close(descriptor)
    raise FlowermlError(f"{folder}: was replaced {RACES} times while it was read; re-run the command")


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file or folder is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files that dead processes left beside `target`."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        kept = path.name.endswith(FORMER) and not os.path.lexists(target)
        if not kept and not _is_in_use(path, target):
            remove(path)


def _is_in_use(path: Path, target: Path) -> bool:
    """Return whether a temporary path beside `target` is that of a replacement in progress, or not ours at all."""
    process = path.name.removeprefix(f".{target.name}.").partition(".")[0]
    if not process.isdecimal():
        return True
    return path.name in _own if int(process) == os.getpid() else _is_alive(int(process))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Return whether a process has ended but was not reaped: in a container without an init it stays a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _files(path: Path) -> Iterator[Path]:
    """Yield a file, or all files of a folder, without links."""
    if _is_folder(path):
        for inner in path.iterdir():
            yield from _files(inner)
    elif not path.is_symlink():
        yield path


def _open_to_readers(path: Path, probe: Path) -> None:
    """Give the files that only their owner may read the mode of a new file; `probe` is its path.

    A new file is made because it is subject to the umask and the folder's default ACL; the umask cannot be read without
    setting it, for all threads.
    """
    private = [file for file in _files(path) if not file.stat().st_mode & 0o077]
    if not private:
        return
    try:
        probe.touch()
        mode = probe.stat().st_mode
    finally:
        remove(probe)
    for file in private:
        if mode & 0o077:
            file.chmod(file.stat().st_mode & 0o777 | mode & 0o777)


def _sync(path: Path) -> None:
    """Flush a file, or all files of a folder, to disk."""
    if _is_folder(path):
        for inner in path.iterdir():
            _sync(inner)
        _sync_folder(path)
    elif not path.is_symlink():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Flush the entries of a folder to disk, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content, if it exists. Links are not followed."""
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table without its index, atomically."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file; raises OSError, also for a pipe or a device, and ValueError."""
    try:
        return json.loads(read_regular(path, limit=MAX_JSON).decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
