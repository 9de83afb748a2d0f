"""Printing: answers on stdout, everything else on stderr.

Names of classes and files, labels and a server's messages are a stranger's. What a terminal would obey in them is
escaped here, so all that a command prints goes through this module.
"""

import json
import sys
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from flowerml.cli import streams
from flowerml.core.display import one_line, printable, truncate, visible
from flowerml.core.urls import scrub

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000  # columns where stdout is no terminal, so that programs read whole lines
BAR_LENGTH = 20  # characters for a probability of 1


def say(line: str) -> None:
    """Print a line on stderr, without the secrets of any address in it."""
    print(safe(line), file=sys.stderr)


def safe(message: str) -> str:
    """Return a message to a person as it may be shown: without secrets, and without what a terminal would obey."""
    return visible(scrub(message))


def print_text(text: str) -> None:
    """Print text on stdout; its line ends stay."""
    print(visible(text))


def print_error(message: str) -> None:
    """Print an error on stderr, with `error: ` in front of each of its lines."""
    for line in message.splitlines():
        say(f"error: {line}")


def json_line(value: object) -> None:
    """Print a value on stdout as one line of JSON, and flush it; what a terminal would obey is written as \\uXXXX."""
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    line = json.dumps(value, ensure_ascii=not is_utf8)
    if not line.isprintable():
        line = "".join(
            character if visible(character) == character else json.dumps(character)[1:-1] for character in line
        )
    print(line, flush=True)


def console(*, stderr: bool = False) -> "Console":
    """Return Rich's console on stdout or stderr: with colours on a terminal, with whole lines elsewhere."""
    from rich.console import Console

    class PipeConsole(Console):
        def on_broken_pipe(self) -> None:
            streams.discard_stdout()
            raise SystemExit(streams.PIPE_CLOSED)

    stream = sys.stderr if stderr else sys.stdout
    return PipeConsole(file=stream, width=None if stream.isatty() else WIDE, highlight=False, markup=False, emoji=False)


def table(
    columns: Iterable[str], rows: Iterable[Iterable[str]], *, title: str = "", numbers: Collection[str] = ()
) -> None:
    """Print a table on stdout, with the columns in `numbers` right-aligned; nothing in it is taken for markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = list(columns)
    grid = Table(box=box.SIMPLE_HEAD, show_header=any(names))
    for name in names:
        grid.add_column(_cell(name), justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(_cell(cell)) for cell in row))
    if title:
        console().print(Text(f"\n{_cell(title)}", style="bold"))
    console().print(grid)


def _cell(text: str) -> str:
    return visible(text).replace("\n", r"\n")


def percent(probability: float) -> str:
    """Return a probability as a percentage.

    >>> percent(0.931)
    '93.1 %'
    """
    return f"{100 * probability:.1f} %"


def bar(probability: float) -> str:
    """Return a probability as a bar of up to BAR_LENGTH characters."""
    return "█" * round(BAR_LENGTH * probability)


def short(text: str, length: int = 60) -> str:
    """Return text from anywhere as one line of at most `length` characters."""
    return truncate(printable(one_line(text[: 10 * length])), length)
