"""What a server does so that one large request does not make it large for good."""

import ctypes
import sys
from typing import Any

LARGE = 2**20  # bytes
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h

# Other C libraries than that of Linux, glibc, have neither function.
_LIBC: Any = ctypes.CDLL(None) if sys.platform == "linux" else None


def give_back_large_blocks() -> None:
    """Have this process return large blocks to the system as soon as they are free.

    glibc, once it has freed a block of up to 32 MB, keeps such blocks, for each thread its own; the allocator that
    comes with Arrow, which holds the texts of pandas, keeps even larger ones.
    """
    if "pyarrow" in sys.modules:
        import pyarrow

        pyarrow.set_memory_pool(pyarrow.system_memory_pool())
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(M_MMAP_THRESHOLD, LARGE)


def give_back_small_blocks() -> None:
    """Return what is free between blocks in use: where requests came in at once, what they were read in lies mixed."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
