"""Reading files that a stranger may have made: no pipe is waited for, no device is read, and sizes are bounded."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path, *, limit: int | None = None) -> BinaryIO:
    """Open a regular file for reading, in binary; links are followed.

    Raises OSError (EINVAL) for a pipe, a device or a socket, which `open` would wait for or read without end, EISDIR
    for a folder, and EFBIG above `limit` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        if limit is not None and status.st_size > limit:
            raise OSError(errno.EFBIG, f"Larger than {limit:,} bytes", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, *, limit: int) -> bytes:
    """Return the content of a regular file; raises OSError as `open_regular` does."""
    with open_regular(path, limit=limit) as file:
        content = file.read(limit + 1)
    if len(content) > limit:  # it grew meanwhile
        raise OSError(errno.EFBIG, f"Larger than {limit:,} bytes", str(path))
    return content
