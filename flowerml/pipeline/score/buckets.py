"""Objects in buckets, through fsspec: listed, read and written. Plain paths are read as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from flowerml.core.display import one_line, printable
from flowerml.core.errors import DataError, FlowermlError, InputError
from flowerml.data import tables
from flowerml.data.archives.members import DEFAULT_LIMITS
from flowerml.data.download import is_url
from flowerml.data.tables import TableFile, suffix_of

ENDPOINT = "AWS_ENDPOINT_URL"


@dataclass(frozen=True)
class Stored:
    """An object in a bucket: its address, its size and a tag that changes with its content."""

    url: str
    size: int
    tag: str


def table_file(place: str) -> TableFile:
    """Return the table at a path or an address."""
    if not is_url(place):
        return tables.table_file(Path(place), DEFAULT_LIMITS)
    return TableFile(printable(place), suffix_of(place.partition("?")[0]), lambda: opened(place), DEFAULT_LIMITS)


def opened(url: str) -> BinaryIO:
    """Open an object for reading, in ranges; raises DataError."""
    with errors(url):
        system, path = file_system(url)
        file: BinaryIO = system.open(path, "rb")
        return file


def content(url: str, *, limit: int) -> bytes:
    """Return at most so many bytes of an object; raises InputError where it is gone, DataError where the server fails.

    So a row becomes a row of error only for what is wrong with it.
    """
    with errors(url):
        system, path = file_system(url)
        try:
            data: bytes = system.cat_file(path, start=0, end=limit)
        except FileNotFoundError:
            raise InputError("no_such_file", "no such object") from None
        return data


def listing(url: str) -> list[Stored]:
    """Return the object at an address, or all below it, sorted by name; raises DataError where there is none."""
    with errors(url):
        system, path = file_system(url)
        system.invalidate_cache()
        found = system.find(path, detail=True)
        objects = [
            Stored(system.unstrip_protocol(name), int(info.get("size") or 0), _tag(system, info))
            for name, info in sorted(found.items())
            if info.get("type") != "directory" and not name.endswith("/")
        ]
    if not objects:
        raise DataError(
            f"{printable(url)}: no such object, and none below it; expected a table, an archive or a prefix"
        )
    return objects


@cache
def _file_system(scheme: str) -> Any:
    import fsspec

    return fsspec.filesystem(scheme)


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it; raises DataError where no package reads it."""
    import fsspec

    scheme = url.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError:
        raise DataError(
            f"{scheme}:// is not a scheme that can be read; expected one such as s3://bucket/folder"
        ) from None
    except ImportError as error:
        raise DataError(f"{one_line(error, 200)}; no installed package reads {scheme}://") from None
    system = _file_system(scheme)
    return system, system._strip_protocol(url)


@contextmanager
def errors(url: str) -> Iterator[None]:
    """Translate the errors of the backends to a DataError of one line."""
    try:
        yield
    except (FlowermlError, KeyboardInterrupt):
        raise
    except FileNotFoundError:
        raise DataError(f"{printable(url)}: no such bucket or object") from None
    except PermissionError as error:
        raise DataError(
            f"{printable(url)}: may not be read or written ({one_line(error, 150)}); check the credentials"
        ) from None
    except Exception as error:  # each backend has its own types, without a common base class
        reason = f"{type(error).__name__}: {one_line(error, 200)}"
        raise DataError(
            f"{printable(url)}: the storage fails ({reason}); check {ENDPOINT} and the credentials, then re-run the "
            "command: it resumes"
        ) from None


def _tag(system: Any, info: dict[str, Any]) -> str:
    """Return what changes with an object's content, from its listing: its ETag, or else its time."""
    for name in ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "created"):
        if info.get(name):
            return str(info[name])
    return ""
