"""A file in a bucket, or behind any other scheme that fsspec reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import fsspec

from flowerml.data.download.address import EXAMPLES
from flowerml.data.download.remote import PermanentError, RemoteInfo, RemoteStream, TransientError

CHUNK = 2**20
# Errors of boto, which is imported only where it is used.
NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError")
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
PERMANENT = (ImportError, NotImplementedError, ValueError, TypeError)


class BucketFile:
    """The file at a URL that fsspec can open."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def open(self, known: RemoteInfo | None, start: int) -> Iterator[RemoteStream]:
        """Open the file at `start` if its `ukey` is still the known one, otherwise at 0."""
        system, path = file_system(self.url)
        info = self._info()
        start = start if known == info else 0
        with translated_errors():
            file = system.open(path, "rb")
            file.seek(start)
        with file:
            yield RemoteStream(info, start, self._chunks(file, info))

    def unchanged(self, known: RemoteInfo) -> bool:
        """Return whether the file's `ukey`, or its size without one, is still the known one."""
        info = self._info()
        return known.etag == info.etag if known.etag else known.size == info.size

    def _info(self) -> RemoteInfo:
        system, path = file_system(self.url)
        with translated_errors():
            system.invalidate_cache()
            info = system.info(path)
            if info.get("type") == "directory":
                raise TransientError("expected one file, found a folder")  # it was a file a moment ago
            return RemoteInfo(self.url, etag=str(system.ukey(path)), size=info.get("size"))

    def _chunks(self, file: BinaryIO, info: RemoteInfo) -> Iterator[bytes]:
        with translated_errors():
            while chunk := file.read(CHUNK):
                yield chunk
        if self._info() != info:
            raise TransientError("the file was changed while it was read")


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it; raises PermanentError where no installed package reads it."""
    scheme = url.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise PermanentError(f"{scheme}:// is not a scheme that can be read; expected one such as {EXAMPLES}") from None
    except ImportError as error:
        raise PermanentError(f"{error}; no installed package reads {scheme}://") from error
    with translated_errors():
        system, path = fsspec.url_to_fs(url)
        return system, str(path)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate the errors of the backends to TransientError or PermanentError."""
    try:
        yield
    except (TransientError, PermanentError):
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise PermanentError(f"{type(error).__name__}: {error}") from error
    except PERMANENT as error:
        raise PermanentError(str(error) or type(error).__name__) from error
    except Exception as error:  # each backend has its own types, without a common base class
        if type(error).__name__ in NO_CREDENTIALS:
            raise PermanentError(f"{error}; {CREDENTIALS}") from error
        raise TransientError(f"{type(error).__name__}: {error}") from error
