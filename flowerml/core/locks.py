"""Locks between processes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowerml.core.display import visible


@contextmanager
def hold_lock(path: Path, *, waiting: str) -> Iterator[None]:
    """Hold an inter-process lock; if another process has it, write `waiting` to stderr and wait.

    The lock is the system's, so that a killed process releases it.
    """
    from filelock import FileLock, Timeout
    from tqdm import tqdm

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(visible(waiting), file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Yield whether this process got the lock; never wait."""
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
