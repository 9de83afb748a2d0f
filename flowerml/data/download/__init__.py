"""Robust download of one file from the web or a bucket: resumed, retried, verified, and never left half-written.

pooch verifies and caches, but neither resumes nor asks whether a file has changed; huggingface_hub does, for its own
servers only.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from flowerml.core.display import visible
from flowerml.core.errors import DownloadError
from flowerml.core.locks import hold_lock
from flowerml.data.download.address import check_url, is_url, local_path
from flowerml.data.download.checksum import Checksum
from flowerml.data.download.partial import PartialFile, beside
from flowerml.data.download.remote import PermanentError, RemoteFile, RemoteInfo, TransientError, clean, read_info
from flowerml.data.download.transfer import transfer

__all__ = ["download", "is_url", "local_path"]


def download(
    url: str,
    target: Path,
    *,
    checksum: str | None = None,
    alternative: str = "",
    attempts: int = 5,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> None:
    """Download the file at `url` to `target`, which appears only when it is complete; or a bucket's folder.

    Of a folder each file appears when it is complete, and those that have not changed are kept.

    Until then its bytes are in `target`.part and its version in `target`.part.json; a call after any interruption
    resumes from there. `checksum` is "md5:…" or "sha256:…" (at least the first eight digits). Without one, a file
    that is complete but wrong (from a server that gives too small a size, or none) is not noticed. The bytes are
    stored as they were sent, whatever their Content-Encoding.

    An existing `target` is verified if there is a checksum, and never removed. Without one, a file put there by a
    person is used as it is. For a downloaded file (`target`.json has its version) the server is asked whether it has
    changed; if the server cannot be reached the file is kept, and a line on stderr says so.

    The download fails after `attempts` in a row without progress, `pause`, 2*`pause`, … seconds apart. An http(s)
    attempt fails after `timeout` seconds with (almost) no bytes. Other schemes go through fsspec, whose backends have
    timeouts of their own. Raises DownloadError of one line: the URL, what went wrong, where to put a copy made by
    hand, and `alternative`, another way out.
    """
    try:
        check_url(url)
        expected = Checksum.parse(checksum) if checksum else None
        with _disk_errors(target.parent):
            if not checksum and _is_folder(url, target):
                _download_folder(url, target, attempts=attempts, pause=pause)
                return
            _download(url, target, expected, attempts=attempts, timeout=timeout, pause=pause)
    except PermanentError as error:
        way_out = f", {alternative}" if alternative else ""
        message = f"{_without_login(url)}: {error}; put the file at {target} yourself{way_out}"
        raise DownloadError(clean(message)) from error.__cause__


def _download(
    url: str, target: Path, checksum: Checksum | None, *, attempts: int, timeout: float, pause: float
) -> None:
    if _up_to_date(target, checksum):
        return
    before = _stamp(target)
    with hold_lock(beside(target, ".lock"), waiting=f"{target.name}: another process is downloading it; waiting"):
        made_meanwhile = _stamp(target) not in (None, before)
        if _up_to_date(target, checksum) or made_meanwhile:
            return
        remote = _remote_file(url, target, timeout, checksum)
        if target.exists() and _still_current(remote, url, target):
            return
        partial = PartialFile(target, url)
        transfer(remote, partial, attempts=attempts, pause=pause)
        if checksum and (digits := checksum.digits_of(partial.path)) != checksum.digits:
            _report(f"{target.name}: expected {checksum}, found {digits}; downloading it again from the beginning")
            partial.discard()
            transfer(remote, partial, attempts=attempts, pause=pause)
            if (digits := checksum.digits_of(partial.path)) != checksum.digits:
                partial.discard()
                raise PermanentError(f"expected {checksum}, found {digits}, twice")
        partial.finish()


def _is_folder(url: str, target: Path) -> bool:
    """Return whether a URL is a bucket's folder; what is there decides where the bucket cannot be reached."""
    if _is_web(url) or target.is_file():
        return False
    from flowerml.data.download.bucket_folder import is_folder

    try:
        return is_folder(url)
    except TransientError:
        return target.is_dir()


def _download_folder(url: str, target: Path, *, attempts: int, pause: float) -> None:
    from flowerml.data.download.bucket_folder import download_folder

    partial = beside(target, ".partial")
    with hold_lock(beside(target, ".lock"), waiting=f"{target.name}: another process is downloading it; waiting"):
        complete = None if partial.exists() or not target.is_dir() else _stamp(beside(target, ".json"))
        partial.touch()
        try:
            download_folder(url, target, attempts=attempts, pause=pause)
        except PermanentError as error:
            unreachable = isinstance(error.__cause__, TransientError)
            if complete is None or not unreachable or complete != _stamp(beside(target, ".json")):
                raise
            _report(f"{target}: kept; whether {_without_login(url)} has changed is unknown ({clean(error)})")
        partial.unlink()


def _is_web(url: str) -> bool:
    return urlsplit(url).scheme.lower() in ("http", "https")


def _up_to_date(target: Path, checksum: Checksum | None) -> bool:
    """Return whether the file at `target` can be used without asking the server."""
    if not target.exists():
        return False
    if not target.is_file():
        raise PermanentError(f"expected a file at {target}, found a folder; move it away")
    if checksum is None:
        info = read_info(beside(target, ".json"))
        return info is None or info.size != target.stat().st_size  # put there, or changed, by a person
    if (digits := checksum.digits_of(target)) != checksum.digits:
        raise DownloadError(f"{target}: expected {checksum}, found {digits}; remove it and it will be downloaded")
    return True


def _still_current(remote: RemoteFile, url: str, target: Path) -> bool:
    """Return whether the file downloaded before is still the server's version, or cannot be compared."""
    info = read_info(beside(target, ".json"))
    assert info is not None, "a file without it is up to date"
    if info.url != url:  # the tags of a mirror are its own
        info = RemoteInfo(url, size=info.size)
    try:
        return remote.unchanged(info)
    except (TransientError, PermanentError) as error:
        _report(f"{target}: kept; whether {_without_login(url)} has changed is unknown ({clean(error)})")
        return True


def _remote_file(url: str, target: Path, timeout: float, checksum: Checksum | None) -> RemoteFile:
    if _is_web(url):
        from flowerml.data.download.http import HttpFile

        page_wanted = target.suffix.lower() in (".html", ".htm")
        return HttpFile(url, timeout=timeout, page_wanted=page_wanted, verified=checksum is not None)
    from flowerml.data.download.bucket import BucketFile

    return BucketFile(url)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Translate failures of the local disk to a PermanentError that names the folder."""
    try:
        yield
    except OSError as error:
        name = f", {error.filename}" if error.filename else ""
        raise PermanentError(f"{folder}: cannot be written to ({error.strerror or error}{name})") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    if not path.exists():
        return None
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _without_login(url: str) -> str:
    """Return the URL without user and password. They may be what makes it invalid, so it need not parse."""
    if not is_url(url):
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)


def _report(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(visible(line), file=sys.stderr)
