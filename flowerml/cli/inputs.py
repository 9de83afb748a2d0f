"""Reading the arguments of `flowerml predict` as raw inputs: files, folders, globs, stdin and texts."""

import glob
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.cli import output
from flowerml.cli.output import say
from flowerml.core.display import format_size
from flowerml.core.errors import InputError
from flowerml.data import tables
from flowerml.data.archives.members import DEFAULT_LIMITS
from flowerml.data.layout import Listing, skipped_summary, suffix_problem
from flowerml.data.tables import Column
from flowerml.data.tables.files import DELIMITED
from flowerml.engine.parallel import map_readable
from flowerml.tasks.base import Task
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from flowerml.data.examples import Raw

STDIN = "-"
MAX_BYTES = 256 * 2**20  # of one file
HIDDEN = "."  # the start of a hidden file's name


@dataclass(frozen=True)
class Input:
    """One input and the name that its answer is printed with; read only when its turn comes."""

    name: str
    source: "str | Path | Stdin | InputError"

    def raw(self, task: Task) -> "Raw | InputError":
        """Return the raw input that the classifier takes, or an InputError."""
        try:
            if isinstance(self.source, str | InputError):
                return self.source
            return task.from_bytes(self.source.content if isinstance(self.source, Stdin) else _content(self.source))
        except InputError as error:
            return error


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table to predict: names, or numbers from 0 where it has no header.

    The label, where there is one, only helps to find rows that a quotation mark swallows.
    """

    text: str | int = "text"
    id: str | int | None = None
    label: str | int | None = None

    def to_read(self, suffix: str) -> list[Column]:
        """Return what to read of a table with this ending."""
        columns = [Column("text", self.text, "--text-column"), Column("id", self.id, "--id-column")]
        if suffix in DELIMITED:
            columns.append(Column("label", self.label, "", optional=True))
        return columns


class Stdin:
    """The content of stdin, read once."""

    @cached_property
    def content(self) -> bytes:
        """Return all of it; raises InputError where it is too large."""
        return _limited(sys.stdin.buffer.read(MAX_BYTES + 1))

    @property
    def kind(self) -> str:
        """Return the first kind that recognizes the content; the first of all where none does, or it is too large."""
        with suppress(InputError):
            for kind, task in TASKS.items():
                if task.recognizes(self.content):
                    return kind
        return next(iter(TASKS))


def expanded(
    arguments: Iterable[str], task: Task, stdin: Stdin, columns: "TableColumns | None" = None
) -> Iterator[Input]:
    """Yield the inputs that the arguments stand for, in order; those of a folder or glob are sorted by name.

    A table stands for its rows. Raises DataError where it cannot be read, or has no column of the given names.
    An argument that is no file is a text where the task reads texts; otherwise it becomes an error for its input.
    """
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN:
            yield Input(argument, stdin)
        elif not argument:
            yield Input(argument, argument)  # Path("") would be this folder
        elif is_there(path) and path.is_dir():
            yield from _folder_inputs(path, task)
        elif is_table(path, task):
            yield from table_inputs(path, columns or TableColumns())
        elif is_there(path):
            yield Input(argument, path)
        elif matches := _matches(argument):
            yield from expanded(matches, task, stdin, columns)
        else:
            yield Input(argument, argument if _is_text(argument, task) else path)


def kind(arguments: Iterable[str], stdin: Stdin) -> str | None:
    """Return the kind of all the arguments, inferred from their names; None where they differ."""
    kinds = {_kind(argument, stdin) for argument in arguments}
    return kinds.pop() if len(kinds) == 1 else None


def answers(
    classifier: Classifier, inputs: Iterable[Input], *, top_k: int
) -> Iterator[tuple[Input, Prediction | InputError]]:
    """Yield each input with its answer, in order; memory is bounded."""
    pairs = ((item, item.raw(classifier.task)) for item in inputs)
    return map_readable(pairs, lambda raws: classifier.predict_each(raws, top_k=top_k))


def is_table(path: Path, task: Task) -> bool:
    """Return whether a path leads to a table of inputs of this task."""
    return bool(task.TABLES) and is_there(path) and tables.is_table(path)


def table_inputs(path: Path, columns: TableColumns) -> Iterator[Input]:
    """Yield the rows of a table, by their ids or else numbers; warnings go to stderr. Raises DataError."""
    file = tables.table_file(path, DEFAULT_LIMITS)
    table = tables.open_table(file, columns.to_read(file.suffix))
    for warning in table.warnings:
        output.say(f"warning: {warning}")
    for record in table.records():
        name, text = _text(record.values.get("id")), _text(record.values.get("text"))
        source = InputError("unusable_row", record.problem) if record.problem else text
        yield Input(name or f"row {record.number}", source)


def _text(value: str | bytes | None) -> str:
    """Return a value of a table as valid Unicode; empty where it is missing."""
    return (
        value.decode(errors="replace") if isinstance(value, bytes) else (value or "").encode(errors="replace").decode()
    )


def _folder_inputs(folder: Path, task: Task) -> Iterator[Input]:
    """Yield the files of the task's kind in a folder; the others are counted on stderr, as `check` does."""
    empty, others = True, Listing()
    for path in _files(folder):
        if path.suffix.lower() in task.SUFFIXES and not _is_special(path):
            empty = False
            yield Input(str(path), path)
        else:
            others.skip(str(path), _not_read(path, task))
    if others.skipped:
        say(skipped_summary(others.skipped))
    if empty:
        yield Input(str(folder), folder)  # its answer will be the error `empty_folder`


def _not_read(path: Path, task: Task) -> str:
    """Return why an entry of a folder is no input."""
    if path.is_dir():
        return "a link to a folder"
    if _is_special(path):
        return "a pipe, socket or device"
    return suffix_problem(path.name, task.SUFFIXES, task.NOT_READ)


def _is_special(path: Path) -> bool:
    """Return whether reading this might wait for ever; a dangling link is read, and becomes an error of its own."""
    return path.exists() and not path.is_file()


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, sorted by name in each; hidden ones are skipped."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        # os.walk does not follow links to folders, which may lead anywhere; they are named with the files.
        names += [name for name in folders if Path(above, name).is_symlink()]
        yield from (Path(above, name) for name in sorted(names) if not name.startswith(HIDDEN))


def state(path: Path) -> str:
    """Return a digest of the names, sizes and times of a file or of a folder's files, or of a text itself."""
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape"))
    for file in _files(path) if is_there(path) and path.is_dir() else [path]:
        if is_there(file):
            status = file.stat()
            entry = f"{file.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(entry.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _matches(pattern: str) -> list[str]:
    """Return the paths that a glob matches; none where the text is no glob."""
    if not glob.has_magic(pattern):
        return []
    start = Path(PurePath(pattern).anchor)
    try:
        return sorted(str(path) for path in start.glob(str(PurePath(pattern).relative_to(start))))
    except (ValueError, OSError):  # text with a question mark or two stars
        return []


def is_there(path: Path) -> bool:
    """Return whether this is an existing file or folder; text that cannot be a path is not."""
    try:
        path.stat()
    except (OSError, ValueError):  # text too long for a path
        return False
    return True


def _is_text(argument: str, task: Task) -> bool:
    """Return whether an argument is text, and not the name of a missing file."""
    return task.RAW is str and PurePath(argument).suffix.lower() not in task.SUFFIXES


def _kind(argument: str, stdin: Stdin) -> str:
    if argument == STDIN:
        return stdin.kind
    path = Path(argument)
    if is_there(path) and path.is_dir():
        names: Iterable[Path] = _files(path)
    else:
        names = map(Path, _matches(argument) or [argument])
    for name in names:
        for kind, task in TASKS.items():
            if name.suffix.lower() in task.SUFFIXES:
                return kind
    # No file, so it is an input itself: of the first kind whose inputs can be typed.
    return next(kind for kind, task in TASKS.items() if task.RAW is str)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _limited(file.read(MAX_BYTES + 1))
    except FileNotFoundError:
        raise InputError("no_such_file", "no such file") from None
    except IsADirectoryError:
        raise InputError("empty_folder", "a folder without files of this kind") from None
    except OSError as error:
        raise InputError("unreadable_file", f"cannot be read ({error.strerror})") from None


def _limited(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise InputError("file_too_large", f"larger than {format_size(MAX_BYTES)}")
    return content
