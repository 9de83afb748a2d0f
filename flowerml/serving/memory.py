"""Keeping a server small after a large request."""

import ctypes
import sys
from typing import Any

LARGE = 2**20  # bytes
KEPT = 16 * 2**20  # bytes; the blocks below LARGE that a picture takes, several times over
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h

# Neither function exists in C libraries other than glibc.
_LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None


def configure_malloc() -> None:
    """Make this process return large blocks to the system as soon as they are freed.

    glibc raises its own threshold to the largest block freed so far, up to 32 MB, and from then on keeps such blocks,
    in each thread. Arrow's allocator, which holds the texts of pandas, keeps even larger ones. Smaller blocks are kept:
    with a threshold of one's own glibc would return all above 128 kB, and a picture took 290 page faults, a tenth of
    its time.
    """
    if "pyarrow" in sys.modules:
        import pyarrow

        pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(M_MMAP_THRESHOLD, LARGE)
        _LIBC.mallopt(M_TRIM_THRESHOLD, KEPT)


def trim_malloc() -> None:
    """Return free memory between blocks in use to the system: concurrent requests leave it scattered."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
