"""One file from the web or from a bucket, downloaded robustly: resumed, tried again, verified, whole or not at all."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from flowerml.core.errors import DownloadError
from flowerml.core.locks import hold_lock
from flowerml.data.download.address import is_url, local_path, refuse_unusable
from flowerml.data.download.checksum import Checksum
from flowerml.data.download.partial import Part, beside
from flowerml.data.download.remote import Known, Refusal, Remote, Retry, one_line, read_known
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
    """See that `target` holds the file at `url`; it stands there whole or not at all.

    While it comes it is at `target`.part, with what is known of it in `target`.part.json, and a call after an
    interruption of any kind goes on from there. `checksum` is "md5:…" or "sha256:…" (of which the first eight digits
    or more); without one, a file that came whole but wrong (a server that gives too small a length, or none at all)
    passes. The bytes are stored as they were sent, whatever Content-Encoding says of them.

    A `target` that is there already is verified if there is a checksum, and never removed. Without one it is taken as
    it is where a person put it; where it was downloaded (`target`.json says from what), the server is asked
    whether it has changed, and if the server cannot be reached it is kept, with a line on stderr that says so.

    A server is given up on after `attempts` in a row that brought next to nothing, `pause`, 2*`pause`, … seconds
    apart, and over http(s) an attempt after `timeout` seconds without an answer or with next to no bytes. Other schemes
    go through fsspec, whose backends have timeouts of their own. Raises DownloadError, one line: the URL, what went
    wrong, where a copy made by hand is taken from, and `alternative`, which says what else can be done.
    """
    try:
        refuse_unusable(url)
        expected = Checksum.parse(checksum) if checksum else None
        with _writing(target.parent):
            _fetch(url, target, expected, attempts=attempts, timeout=timeout, pause=pause)
    except Refusal as refusal:
        instead = f", {alternative}" if alternative else ""
        message = f"{_shown(url)}: {refusal}; put the file at {target} yourself{instead}"
        raise DownloadError(one_line(message)) from refusal.__cause__


def _fetch(url: str, target: Path, checksum: Checksum | None, *, attempts: int, timeout: float, pause: float) -> None:
    if _settled(target, checksum):
        return
    before = _stamp(target)
    with hold_lock(beside(target, ".lock"), waiting=f"{target.name}: another process is downloading it; waiting"):
        made_meanwhile = _stamp(target) not in (None, before)
        if _settled(target, checksum) or made_meanwhile:
            return
        remote = _remote(url, target, timeout, checksum)
        if target.exists() and _keep(remote, url, target):
            return
        part = Part(target, url)
        transfer(remote, part, attempts=attempts, pause=pause)
        if checksum and (found := checksum.found(part.path)) != checksum.digits:
            _say(f"{target.name}: expected {checksum}, found {found}; downloading it once more from the beginning")
            part.discard()
            transfer(remote, part, attempts=attempts, pause=pause)
            if (found := checksum.found(part.path)) != checksum.digits:
                part.discard()
                raise Refusal(f"expected {checksum}, found {found}, twice")
        part.finish()


def _settled(target: Path, checksum: Checksum | None) -> bool:
    """Whether what stands at `target` can be used without asking anyone."""
    if not target.exists():
        return False
    if not target.is_file():
        raise Refusal(f"{target} is a folder, and a file is expected there; move it away")
    if checksum is None:
        known = read_known(beside(target, ".json"))
        return known is None or known.size != target.stat().st_size  # a person's, or changed by one
    if (found := checksum.found(target)) != checksum.digits:
        raise DownloadError(f"{target}: expected {checksum}, found {found}; remove it and it will be downloaded")
    return True


def _keep(remote: Remote, url: str, target: Path) -> bool:
    """Whether the file that was downloaded before is still what the server has, as far as it can be known."""
    known = read_known(beside(target, ".json"))
    assert known is not None, "a file without it is settled"
    if known.url != url:  # a mirror's tags are its own
        known = Known(url, size=known.size)
    try:
        return remote.unchanged(known)
    except (Retry, Refusal) as problem:
        _say(f"{target}: kept as it is; whether {_shown(url)} has changed cannot be known ({one_line(str(problem))})")
        return True


def _remote(url: str, target: Path, timeout: float, checksum: Checksum | None) -> Remote:
    if urlsplit(url).scheme.lower() in ("http", "https"):
        from flowerml.data.download.http import Web

        page_wanted = target.suffix.lower() in (".html", ".htm")
        return Web(url, timeout=timeout, page_wanted=page_wanted, verified=checksum is not None)
    from flowerml.data.download.bucket import Store

    return Store(url)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What goes wrong with files on this machine is a Refusal that names the folder."""
    try:
        yield
    except OSError as error:
        name = f", {error.filename}" if error.filename else ""
        raise Refusal(f"{folder}: cannot be written to ({error.strerror or error}{name})") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _shown(url: str) -> str:
    """The URL without a user and a password, which may well be why it is no valid one."""
    if not is_url(url):
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{rest.rpartition('@')[2]}"
    return url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)


def _say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
