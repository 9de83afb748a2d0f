"""Writing so that nothing half-written ever stands under its final name."""

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
    """A temporary path beside `target`; what is made there takes target's place if the block succeeds.

    Works for files and folders. A `target` that is a symbolic link is replaced, never followed. What is made is on
    the disk before it gets its name, so that a loss of power leaves the former or the new one, too; a folder's former
    one is gone for the moment between two renamings. What a killed process left beside `target` is removed. An OSError
    names `target` where it names no file.
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
                target.rename(former)  # the system replaces only a file by a file
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
    """Remove what `replacing` made beside `target` in processes that are no more."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        process = path.name.removeprefix(f".{target.name}.").partition(".")[0]
        if process.isdecimal() and not _alive(int(process)):
            remove(path)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # someone else's
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Whether it has ended, and nobody has asked how: in a container without an init it stays so."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _sync(path: Path) -> None:
    """Have the system write a file, or all files of a folder, to the disk."""
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            _sync(inner)
        _sync_folder(path)
    elif not path.is_symlink():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Have the system write the names in a folder to the disk, where it can."""
    with suppress(OSError):  # some systems sync no folders
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; nothing where there is nothing. Links are not followed."""
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
