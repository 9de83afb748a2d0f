"""A file that has not come whole yet."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from flowerml.core import files
from flowerml.data.download.remote import Known, Refusal, read_known


def beside(target: Path, ending: str) -> Path:
    """The companion of `target` with this ending."""
    return target.with_name(target.name + ending)


class Part:
    """The bytes of `url` that have come so far, and what is known of the file they are the beginning of.

    Both are on disk at every moment, and outlive the process. What the system refuses is an OSError.
    """

    def __init__(self, target: Path, url: str) -> None:
        self.target = target
        self.path = beside(target, ".part")
        self._notes = beside(target, ".part.json")
        known = read_known(self._notes)
        usable = known is not None and known.url == url and self.path.is_file()
        self.known = known if usable else None

    @property
    def size(self) -> int:
        """Bytes that have come of the known file."""
        return self.path.stat().st_size if self.known else 0

    @property
    def whole(self) -> bool:
        """Whether nothing is missing, as far as the server has said how much there is."""
        return self.known is not None and self.known.size == self.size

    def begin(self, known: Known) -> None:
        """Start anew with another file, or the same from its first byte."""
        self.path.write_bytes(b"")  # first, so that no notes ever stand beside the bytes of another file
        files.write_json(self._notes, asdict(known))
        self.known = known

    @contextmanager
    def appending(self, size: int | None) -> Iterator[BinaryIO]:
        """The file, to write to its end until it has `size` bytes; raises Refusal if the disk has no room for them."""
        folder = self.path.parent
        missing, free = (size or 0) - self.size, shutil.disk_usage(folder).free
        if missing > free:
            raise Refusal(f"{folder}: {missing / 1e9:.2f} GB more are needed, and {free / 1e9:.2f} GB are free")
        with self.path.open("ab") as file:
            yield file

    def discard(self) -> None:
        """Forget what has come."""
        self.known = None
        files.remove(self.path)
        files.remove(self._notes)

    def finish(self) -> None:
        """Put the file under its own name, and what is known of it into `target`.json."""
        assert self.known is not None, "only what has come can be finished"
        known = replace(self.known, size=self.size)
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(self.target)
        files.write_json(beside(self.target, ".json"), asdict(known))
        files.remove(self._notes)
