"""A file in a bucket, or behind any other scheme that fsspec reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec  # type: ignore[import-untyped]

from flowerml.data.download.address import EXAMPLES
from flowerml.data.download.remote import Answer, Known, Refusal, Retry

CHUNK = 2**20
# What another attempt would only meet again.
LASTING = (ImportError, NotImplementedError, ValueError, TypeError)


class Store:
    """The file at a URL that fsspec can open."""

    def __init__(self, url: str) -> None:
        self.url = url

    @contextmanager
    def open(self, known: Known | None, start: int) -> Iterator[Answer]:
        """The bytes from `start` if the file's `ukey` is what it was, from 0 otherwise."""
        system, path = self._found()
        now = self._known()
        start = start if known == now else 0
        with _translated():
            file = system.open(path, "rb")
            file.seek(start)
        with file:
            yield Answer(now, start, self._chunks(file, now))

    def unchanged(self, known: Known) -> bool:
        """Whether its `ukey`, or without one its size, is what it was."""
        now = self._known()
        return known.etag == now.etag if known.etag else known.size == now.size

    def _found(self) -> tuple[Any, str]:
        """The file system, and the path in it; raises Refusal where nothing that is installed reads this scheme."""
        scheme = self.url.partition("://")[0]
        try:
            fsspec.get_filesystem_class(scheme)
        except ValueError:
            raise Refusal(f"{scheme}:// is not a scheme that can be read; expected one such as {EXAMPLES}") from None
        except ImportError as error:
            raise Refusal(f"{error}; nothing that is installed reads {scheme}://") from error
        with _translated():
            return fsspec.url_to_fs(self.url)

    def _known(self) -> Known:
        system, path = self._found()
        with _translated():
            system.invalidate_cache()
            found = system.info(path)
            if found.get("type") == "directory":
                raise Refusal("this is a folder, and one file is expected; name an archive of it")
            return Known(self.url, etag=str(system.ukey(path)), size=found.get("size"))

    def _chunks(self, file: Any, known: Known) -> Iterator[bytes]:
        with _translated():
            while chunk := file.read(CHUNK):
                yield chunk
        if self._known() != known:
            raise Retry("the file was changed while it was read")


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the backends as Retry or Refusal."""
    try:
        yield
    except (Retry, Refusal):
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise Refusal(f"{type(error).__name__}: {error}") from error
    except LASTING as error:
        raise Refusal(str(error) or type(error).__name__) from error
    except Exception as error:  # each backend has its own, of no common kind
        raise Retry(f"{type(error).__name__}: {error}") from error
