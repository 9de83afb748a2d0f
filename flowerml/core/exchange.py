"""Swap two files or folders in one step, where the system can.

Not in Python's standard library: `os.replace` replaces a file atomically, but never a folder that holds files.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

AT_FDCWD = -100  # paths are relative to the working directory
RENAME_EXCHANGE = 2
# EINVAL: this file system cannot (such as NFS, FUSE and 9p); ENOSYS, EPERM: an old kernel, or a container's filter.
REFUSED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


def exchange(first: Path, second: Path) -> bool:
    """Swap two existing paths atomically; links are not followed. Return False if the system or file system cannot.

    Raises OSError, above all FileNotFoundError if one of them does not exist. Only Linux can, with renameat2(2).
    """
    rename = _renameat2()
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in REFUSED:
        return False
    raise OSError(number, os.strerror(number), str(second))


@lru_cache(maxsize=1)
def _renameat2() -> Callable[..., int] | None:
    """Return the C library's function; None if it has none, as on macOS."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    rename: Callable[..., int] = function
    return rename
