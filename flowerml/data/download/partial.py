"""A file that is not complete yet."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from flowerml.core import files
from flowerml.data.download.remote import PermanentError, RemoteInfo, read_info


def beside(target: Path, suffix: str) -> Path:
    """Return the companion file of `target` with this suffix."""
    return target.with_name(target.name + suffix)


class PartialFile:
    """The bytes of `url` received so far (`target`.part) and the version they belong to (`target`.part.json).

    Both are on disk at every moment and survive the process. An OSError is a failure of the local disk.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.path = beside(target, ".part")
        self._info_path = beside(target, ".part.json")
        info = read_info(self._info_path)
        usable = info is not None and info.url == url and self.path.is_file()
        self.info = info if usable else None

    @property
    def size(self) -> int:
        """Return the number of bytes received."""
        return self.path.stat().st_size if self.info else 0

    @property
    def is_complete(self) -> bool:
        """Return whether all bytes are there; False where the server gave no size."""
        return self.info is not None and self.info.size == self.size

    def begin(self, info: RemoteInfo) -> None:
        """Start again at byte 0 of the version `info`."""
        self.path.write_bytes(b"")  # first, so that the version never stands beside the bytes of another file
        files.write_json(self._info_path, asdict(info))
        self.info = info

    @contextmanager
    def appending(self, size: int | None) -> Iterator[BinaryIO]:
        """Open the file for appending, up to `size` bytes; raises PermanentError where the disk lacks the room."""
        folder = self.path.parent
        missing, free = (size or 0) - self.size, shutil.disk_usage(folder).free
        if missing > free:
            raise PermanentError(f"{folder}: {missing / 1e9:.2f} GB more are needed, and {free / 1e9:.2f} GB are free")
        with self.path.open("ab") as file:
            yield file

    def discard(self) -> None:
        """Delete what was received."""
        self.info = None
        files.remove(self.path)
        files.remove(self._info_path)

    def finish(self) -> None:
        """Move the file to `target` and its version to `target`.json."""
        assert self.info is not None, "only a file that was begun can be finished"
        info = replace(self.info, size=self.size)
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        files.write_json(beside(self.target, ".json"), asdict(info))
        files.remove(self._info_path)
