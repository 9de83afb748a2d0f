"""The folder of a server process for the versions it downloads."""

import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

PREFIX = "flowerml-serve-"
LOCK = "lock"
GRACE = 60.0  # seconds; another process may just have made its folder, and not yet locked it


class Scratch:
    """A temporary folder that is removed by `close`, or, if this process is killed, by the next one that makes one.

    Processes tell by a lock whether the owner of a folder lives: the system releases it whatever ends the process,
    while the id of a process may be another's by then.
    """

    def __init__(self) -> None:
        from filelock import FileLock

        root = Path(tempfile.gettempdir())
        _remove_stale(root)
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self._lock = FileLock(self.path / LOCK, thread_local=False)
        self._lock.acquire()
        self._numbers = count(1)

    def folder(self) -> Path:
        """Return a new empty folder; the caller removes it, or `close` does."""
        path = self.path / str(next(self._numbers))
        path.mkdir(parents=True)
        return path

    def close(self) -> None:
        """Remove everything."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_stale(root: Path) -> None:
    """Remove the folders whose process has ended; those of other users are left alone."""
    from filelock import FileLock, Timeout

    user = os.getuid() if hasattr(os, "getuid") else 0  # Windows has no such number, and says 0
    for path in root.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            status = path.lstat()
            is_ours = stat.S_ISDIR(status.st_mode) and status.st_uid == user
            if is_ours and time.time() - status.st_mtime > GRACE:
                with FileLock(path / LOCK, timeout=0):
                    shutil.rmtree(path, ignore_errors=True)
