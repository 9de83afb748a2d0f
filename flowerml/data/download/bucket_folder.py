"""A folder of a bucket, copied file by file; what is there already and has not changed is kept."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from flowerml.core import files
from flowerml.core.display import printable, visible
from flowerml.data.download.bucket import file_system, translated_errors
from flowerml.data.download.partial import beside
from flowerml.data.download.remote import PermanentError, TransientError, clean

THREADS = 16  # a request takes much longer than to store a picture
# Whatever a file system gives of a file's version; S3, Google, Azure, SSH.
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime")


@dataclass(frozen=True)
class Remote:
    """A file of the folder: its address in the file system, size in bytes and version."""

    address: str
    size: int
    version: str


def is_folder(url: str) -> bool:
    """Return whether a URL ends in a slash, or names no file but a folder. Raises TransientError and PermanentError."""
    system, path = file_system(url)
    with translated_errors():
        system.invalidate_cache()
        return url.endswith("/") or bool(system.isdir(path))


def download_folder(url: str, target: Path, *, attempts: int, pause: float) -> None:
    """Make the folder `target` a copy of the one at `url`; a call after an interruption goes on where it was.

    Files that are no longer in the bucket are removed. Raises PermanentError after `attempts` failures in a row without
    a new file, the first of which is followed by `pause` seconds.
    """
    from tqdm import tqdm

    failures, before = 0, -1
    while True:
        known = _read(beside(target, ".json"))
        try:
            _copy(url, target, known)
            return
        except TransientError as error:
            failures = 1 if len(known) > before else failures + 1
            before = len(known)
            if failures >= attempts:
                raise PermanentError(f"{clean(error)}, given up after {failures} attempts in a row") from error
            wait = pause * 2 ** min(failures - 1, 6)
            tqdm.write(visible(f"{target.name}: {clean(error)}; retrying in {wait:g} s"), file=sys.stderr)
            time.sleep(wait)


def _copy(url: str, target: Path, known: dict[str, Remote]) -> None:
    from flowerml.core import progress

    system, root = file_system(url)
    wanted = _listing(system, root)
    if not wanted:
        raise PermanentError("expected a folder with files, found none under this address")
    for name in known.keys() - wanted.keys():
        (target / name).unlink(missing_ok=True)
    new = [name for name, remote in wanted.items() if known.get(name) != remote or not _is_there(target / name, remote)]
    kept = {name: remote for name, remote in wanted.items() if name not in set(new)}
    if new or kept.keys() != known.keys():
        try:
            with (
                ThreadPoolExecutor(THREADS) as pool,
                progress.bar(total=len(wanted), initial=len(kept), desc=visible(target.name), unit="file") as bar,
            ):
                fetched = pool.map(lambda name: _fetch(system, wanted[name], target / name), new)
                for name, _ in zip(new, fetched, strict=True):
                    kept[name] = wanted[name]
                    bar.update()
        finally:  # also when interrupted
            target.mkdir(parents=True, exist_ok=True)
            files.write_json(beside(target, ".json"), {name: asdict(remote) for name, remote in kept.items()})
    _remove_others(target, wanted)


def _listing(system: Any, root: str) -> dict[str, Remote]:
    """Return the files under a folder by their relative paths; raises PermanentError for one that leads elsewhere."""
    with translated_errors():
        system.invalidate_cache()
        entries = system.find(root, detail=True)
    prefix, wanted = f"{root.rstrip('/')}/", {}
    for address, info in sorted(entries.items()):
        name = address.removeprefix(prefix)
        if name.endswith("/") or not name or address == root:
            continue  # what stands for a folder
        if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name:
            raise PermanentError(f"the name {printable(name)} would be written outside the folder; rename it")
        version = next((str(info[key]) for key in VERSIONS if info.get(key)), "")
        wanted[name] = Remote(address, int(info.get("size") or 0), version)
    return wanted


def _fetch(system: Any, remote: Remote, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path, ".part")
    try:
        with translated_errors():
            content = system.cat_file(remote.address)
    except PermanentError as error:
        if isinstance(error.__cause__, FileNotFoundError):  # the next attempt lists the folder anew
            raise TransientError(f"{PurePosixPath(remote.address).name} is gone") from error
        raise
    if len(content) != remote.size:
        raise TransientError(f"{PurePosixPath(remote.address).name} was changed while it was read")
    partial.write_bytes(content)
    partial.replace(path)


def _is_there(path: Path, remote: Remote) -> bool:
    with suppress(OSError):
        return path.stat().st_size == remote.size
    return False


def _remove_others(target: Path, wanted: dict[str, Remote]) -> None:
    """Remove what an interrupted call may have left, and empty folders."""
    for path in sorted(target.rglob("*"), reverse=True):
        name = path.relative_to(target).as_posix()
        if path.is_dir():
            with suppress(OSError):
                path.rmdir()  # fails where it is not empty
        elif name not in wanted:
            path.unlink()


def _read(path: Path) -> dict[str, Remote]:
    try:
        return {name: Remote(**values) for name, values in files.read_json(path).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
