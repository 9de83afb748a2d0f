"""Reading the arguments of `flowerml predict` as raw inputs: files, folders, globs, stdin and texts."""

import glob
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
from flowerml.core.errors import InputError
from flowerml.data import tables
from flowerml.data.layout import Listing, skipped_summary
from flowerml.engine.parallel import map_readable
from flowerml.pipeline.score import folders
from flowerml.pipeline.score.pieces import Entry, Problem, Where
from flowerml.pipeline.score.reading import MAX_BYTES, limited, read
from flowerml.pipeline.score.sources import TableColumns, table_entries
from flowerml.tasks.base import Task
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from flowerml.data.examples import Raw

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One input and the name that its answer is printed with; read only when its turn comes."""

    name: str
    source: "Where | Stdin"

    def raw(self, task: Task) -> "Raw | InputError":
        """Return the raw input that the classifier takes, or an InputError."""
        return read(self.entry().where, task)

    def entry(self) -> Entry:
        """Return it as plain data; stdin is read for that."""
        return Entry(self.name, self.source.where if isinstance(self.source, Stdin) else self.source)


class Stdin:
    """The content of stdin, read once."""

    @cached_property
    def content(self) -> bytes:
        """Return all of it; raises InputError where it is too large."""
        return limited(sys.stdin.buffer.read(MAX_BYTES + 1))

    @property
    def where(self) -> "bytes | Problem":
        """Return all of it, or why it cannot be read."""
        try:
            return self.content
        except InputError as error:
            return Problem.of(error)

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
        elif folders.is_there(path) and path.is_dir():
            yield from _folder_inputs(path, task)
        elif is_table(path, task):
            yield from table_inputs(path, columns or TableColumns())
        elif folders.is_there(path):
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
    return bool(task.TABLES) and folders.is_there(path) and tables.is_table(path)


def table_inputs(path: Path, columns: TableColumns) -> Iterator[Input]:
    """Yield the rows of a table, by their ids or else numbers; warnings go to stderr. Raises DataError."""
    for entry in table_entries(path, columns, output.say):
        yield Input(entry.name, entry.where)


def _folder_inputs(folder: Path, task: Task) -> Iterator[Input]:
    """Yield the files of the task's kind in a folder; the others are counted on stderr, as `check` does."""
    empty, others = True, Listing()
    for path in folders.inputs(folder, task, others):
        empty = False
        yield Input(str(path), path)
    if others.skipped:
        say(skipped_summary(others.skipped))
    if empty:
        yield Input(str(folder), folder)  # its answer will be the error `empty_folder`


def _matches(pattern: str) -> list[str]:
    """Return the paths that a glob matches; none where the text is no glob."""
    if not glob.has_magic(pattern):
        return []
    start = Path(PurePath(pattern).anchor)
    try:
        return sorted(str(path) for path in start.glob(str(PurePath(pattern).relative_to(start))))
    except (ValueError, OSError):  # text with a question mark or two stars
        return []


def _is_text(argument: str, task: Task) -> bool:
    """Return whether an argument is text, and not the name of a missing file."""
    return task.RAW is str and PurePath(argument).suffix.lower() not in task.SUFFIXES


def _kind(argument: str, stdin: Stdin) -> str:
    if argument == STDIN:
        return stdin.kind
    path = Path(argument)
    if folders.is_there(path) and path.is_dir():
        names: Iterable[Path] = folders.files(path)
    else:
        names = map(Path, _matches(argument) or [argument])
    for name in names:
        for kind, task in TASKS.items():
            if name.suffix.lower() in task.SUFFIXES:
                return kind
    # No file, so it is an input itself: of the first kind whose inputs can be typed.
    return next(kind for kind, task in TASKS.items() if task.RAW is str)
