"""The interface of the sources that files are downloaded from."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from flowerml.core import files
from flowerml.core.display import one_line, printable


@dataclass(frozen=True)
class RemoteInfo:
    """The version of a remote file. `etag` is the server's ETag, or the `ukey` of an fsspec file system."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class RemoteStream:
    """The bytes of a remote file from `start` on; `chunks` raises only TransientError and PermanentError."""

    info: RemoteInfo
    start: int
    chunks: Iterator[bytes]


class RemoteFile(Protocol):
    """A file on a server or in a bucket."""

    def open(self, known: RemoteInfo | None, start: int) -> AbstractContextManager[RemoteStream]:
        """Open the file at `start` if its version is still `known`, otherwise at 0.

        Raises TransientError and PermanentError.
        """

    def unchanged(self, known: RemoteInfo) -> bool:
        """Return whether the version is still `known`; raises TransientError and PermanentError where it is unclear."""


class TransientError(Exception):
    """A failed attempt that is worth retrying. The server asks for `wait` seconds before that."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class PermanentError(Exception):
    """A failure that a retry would only repeat."""


def read_info(path: Path) -> RemoteInfo | None:
    """Read the JSON of a RemoteInfo; None where the file is missing or invalid."""
    try:
        info = RemoteInfo(**files.read_json(path))
    except (OSError, ValueError, TypeError):
        return None
    texts: tuple[object, ...] = (info.url, info.etag or "", info.last_modified or "")
    valid = all(isinstance(text, str) for text in texts) and isinstance(info.size, int | None)
    return info if valid else None


def clean(message: object) -> str:
    """Return a message of any length as one line; what a terminal would obey is escaped."""
    return printable(one_line(message), limit=None)
