"""What the places that files are downloaded from have in common."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flowerml.core import files


@dataclass(frozen=True)
class Known:
    """What is known of a remote file; `etag` is the server's ETag, or the `ukey` of an fsspec file system."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Answer:
    """The bytes of a remote file from `start` on; `chunks` raises Retry and Refusal and nothing else."""

    known: Known
    start: int
    chunks: Iterator[bytes]


class Remote(Protocol):
    """A file elsewhere."""

    def open(self, known: Known | None, start: int) -> AbstractContextManager[Answer]:
        """Its bytes from `start` if it is still the file that was `known`, from 0 otherwise; Retry, Refusal."""

    def unchanged(self, known: Known) -> bool:
        """Whether it is still the file that was `known`; raises Retry and Refusal where that cannot be learned."""


class Retry(Exception):
    """An attempt failed in a way that the next may not; the server asks for `wait` seconds before that."""

    def __init__(self, reason: str, wait: float = 0) -> None:
        super().__init__(reason)
        self.wait = wait


class Refusal(Exception):
    """There is no use in trying again."""


def read_known(path: Path) -> Known | None:
    """What was written down of a remote file; None where nothing was, or nothing that makes sense."""
    try:
        known = Known(**files.read_json(path))
    except (OSError, ValueError, TypeError):
        return None
    texts: tuple[Any, ...] = (known.url, known.etag or "", known.last_modified or "")
    sound = all(isinstance(text, str) for text in texts) and isinstance(known.size, int | None)
    return known if sound else None


def one_line(text: str) -> str:
    """`text` without line ends, and without what could steer a terminal."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
