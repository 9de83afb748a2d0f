"""From the arguments of `flowerml predict` to raw inputs: files, folders, globs, stdin and texts."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from flowerml.classifier.classifier import Classifier, Prediction
from flowerml.core.display import format_size
from flowerml.core.errors import InputError
from flowerml.engine.parallel import map_readable
from flowerml.tasks.base import Task
from flowerml.tasks.registry import TASKS

STDIN = "-"
MAX_BYTES = 256 * 2**20  # of one file
HIDDEN = "."


@dataclass(frozen=True)
class Input:
    """One thing to predict, under the name its answer is given by; read when its turn comes."""

    name: str
    source: "str | Path | Stdin"

    def raw(self, task: Task) -> Any:
        """What the classifier takes, or an InputError."""
        try:
            if isinstance(self.source, str):
                return self.source
            return task.from_bytes(self.source.content if isinstance(self.source, Stdin) else _content(self.source))
        except InputError as error:
            return error


class Stdin:
    """What comes through stdin, read once."""

    @cached_property
    def content(self) -> bytes:
        """All of it; raises InputError where it is too large."""
        return _limited(sys.stdin.buffer.read(MAX_BYTES + 1))

    @property
    def kind(self) -> str:
        """The first kind that recognizes the content; the first of all where none does, or it is too large."""
        with suppress(InputError):
            for kind, task in TASKS.items():
                if task.recognizes(self.content):
                    return kind
        return next(iter(TASKS))


def expanded(arguments: Iterable[str], task: Task, stdin: Stdin) -> Iterator[Input]:
    """The inputs that the arguments stand for, in their order; a folder's and a glob's sorted by name.

    What is no file is a text, where the task reads texts; else it is an input that will not be found.
    """
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN:
            yield Input(argument, stdin)
        elif not argument:
            yield Input(argument, argument)  # and no path to this very folder
        elif is_there(path) and path.is_dir():
            yield from _of_folder(path, task)
        elif is_there(path):
            yield Input(argument, path)
        elif matches := _matches(argument):
            yield from expanded(matches, task, stdin)
        else:
            yield Input(argument, argument if _is_text(argument, task) else path)


def kind(arguments: Iterable[str], stdin: Stdin) -> str | None:
    """The kind of classifier that all the arguments are for, as far as their names tell; None where they differ."""
    found = {_kind(argument, stdin) for argument in arguments}
    return found.pop() if len(found) == 1 else None


def answers(
    classifier: Classifier, inputs: Iterable[Input], *, top_k: int
) -> Iterator[tuple[Input, Prediction | InputError]]:
    """Each input with its answer, in order; memory does not grow with their number."""
    read = ((one, one.raw(classifier.task)) for one in inputs)
    return map_readable(read, lambda raws: classifier.predict_each(raws, top_k=top_k))


def _of_folder(folder: Path, task: Task) -> Iterator[Input]:
    found = False
    for path in _files(folder):
        if path.suffix.lower() in task.SUFFIXES:
            found = True
            yield Input(str(path), path)
    if not found:
        yield Input(str(folder), folder)  # and its answer will be that it is a folder of other things


def _files(folder: Path) -> Iterator[Path]:
    """The files in a folder and below, sorted by name in each; hidden ones are passed over."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        yield from (Path(above, name) for name in sorted(names) if not name.startswith(HIDDEN))


def _matches(pattern: str) -> list[str]:
    """The paths that a glob stands for; none, where it is none."""
    if not glob.has_magic(pattern):
        return []
    start = Path(PurePath(pattern).anchor)
    try:
        return sorted(str(path) for path in start.glob(str(PurePath(pattern).relative_to(start))))
    except (ValueError, OSError):  # a text with a question mark or two stars
        return []


def is_there(path: Path) -> bool:
    """Whether there is a file or folder; not, either, where this is a text and no path."""
    try:
        path.stat()
    except (OSError, ValueError):  # a text is too long for a name
        return False
    return True


def _is_text(argument: str, task: Task) -> bool:
    """A text of the user's, and not a file that is missing."""
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
    # No file, so it is an input itself, of the first kind whose inputs can be typed.
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
