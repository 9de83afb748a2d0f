"""The files of a local folder that are inputs of a task, and what tells whether they have changed."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.data.layout import Listing, suffix_problem

if TYPE_CHECKING:
    from flowerml.tasks.base import Task

HIDDEN = "."  # the start of a hidden file's name


def inputs(folder: Path, task: "Task", others: Listing) -> Iterator[Path]:
    """Yield the files of the task's kind in a folder; the others are added to a listing's skipped, as `check` does."""
    for path in files(folder):
        if path.suffix.lower() in task.SUFFIXES and not _is_special(path):
            yield path
        else:
            others.skip(str(path), _not_read(path, task))


def files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, sorted by name in each; hidden ones are skipped."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        # os.walk does not follow links to folders, which may lead anywhere; they are named with the files.
        names += [name for name in folders if Path(above, name).is_symlink()]
        yield from (Path(above, name) for name in sorted(names) if not name.startswith(HIDDEN))


def is_there(path: Path) -> bool:
    """Return whether this is an existing file or folder; text that cannot be a path is not."""
    try:
        path.stat()
    except (OSError, ValueError):  # text too long for a path
        return False
    return True


def state(path: Path, task: "Task | None" = None) -> str:
    """Return a digest of the names, sizes and times of a file or of a folder's files, or of a text itself.

    Of a folder only the inputs of a task count, where one is given: answers may be written beside them.
    """
    if not (is_there(path) and path.is_dir()):
        return digest(path, [path])
    return digest(path, files(path) if task is None else inputs(path, task, Listing()))


def digest(path: Path, inner: Iterable[Path]) -> str:
    """Return a digest of a path, and of the names, sizes and times of files."""
    total = hashlib.sha256(str(path).encode(errors="surrogateescape"))
    for file in inner:
        if is_there(file):
            status = file.stat()
            entry = f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0"
            total.update(entry.encode(errors="surrogateescape"))
    return total.hexdigest()


def _not_read(path: Path, task: "Task") -> str:
    """Return why an entry of a folder is no input."""
    if path.is_dir():
        return "a link to a folder"
    if _is_special(path):
        return "a pipe, socket or device"
    return suffix_problem(path.name, task.SUFFIXES, task.NOT_READ)


def _is_special(path: Path) -> bool:
    """Return whether reading this might wait for ever; a dangling link is read, and becomes an error of its own."""
    return path.exists() and not path.is_file()
