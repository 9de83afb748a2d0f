"""Atomic writes: nothing half-written ever stands under its final name."""

import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; if the block succeeds, its file or folder replaces `target`.

    A `target` that is a symbolic link is replaced, not followed. The content is flushed to disk before it is renamed,
    so a power loss leaves either the old or the new one; an old folder is missing only between two renames. Leftovers
    of killed processes beside `target` are removed. An OSError without a file name gets the name of `target`.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp(), "numbers.txt")
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    former = target.with_name(f".{target.name}.{os.getpid()}.former.tmp")
    try:
        yield temporary
        _sync(temporary)
        if temporary.is_dir() or (target.is_dir() and not target.is_symlink()):
            with suppress(FileNotFoundError):
                target.rename(former)  # rename(2) replaces a file, but not a folder that holds files
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(target)
        raise
    finally:
        if os.path.lexists(former) and not os.path.lexists(target):
            former.rename(target)
        remove(temporary)
        remove(former)


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files that dead processes left beside `target`."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        process = path.name.removeprefix(f".{target.name}.").partition(".")[0]
        if process.isdecimal() and not _is_alive(int(process)):
            remove(path)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Return whether a process has ended but was not reaped: in a container without an init it stays a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _sync(path: Path) -> None:
    """Flush a file, or all files of a folder, to disk."""
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            _sync(inner)
        _sync_folder(path)
    elif not path.is_symlink():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Flush the entries of a folder to disk, where the system can."""
    with suppress(OSError):  # some file systems cannot
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content, if it exists. Links are not followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table without its index, atomically."""
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False)


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
