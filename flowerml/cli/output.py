"""What the commands print: answers on stdout, and all that is said about them on stderr."""

import json
import sys
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from flowerml.core.display import one_line, printable, truncate

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000  # columns of what is no terminal: a program that reads lines wants them whole
BAR = 20  # characters of a probability of 1


def say(line: str) -> None:
    """A remark on stderr."""
    print(line, file=sys.stderr)


def tell_error(message: str) -> None:
    """An error on stderr, each of its lines marked as one."""
    for line in message.splitlines():
        say(f"error: {line}")


def json_line(value: Any) -> None:
    """A value as one line of JSON on stdout, at once."""
    readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, ensure_ascii=not readable), flush=True)


def console(*, stderr: bool = False) -> "Console":
    """Rich's console on stdout or stderr: colours on a terminal, whole lines elsewhere."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False, markup=False, emoji=False)


def table(
    columns: Iterable[str], rows: Iterable[Iterable[str]], *, title: str = "", numbers: Collection[str] = ()
) -> None:
    """A table on stdout; the columns in `numbers` are set to the right. Nothing in it is read as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = list(columns)
    drawn = Table(box=box.SIMPLE_HEAD, show_header=any(names))
    for name in names:
        drawn.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    if title:
        console().print(Text(f"\n{title}", style="bold"))
    console().print(drawn)


def percent(probability: float) -> str:
    """A probability as people read it, such as 93.1 %."""
    return f"{100 * probability:.1f} %"


def bar(probability: float) -> str:
    """A probability as a bar of up to BAR characters."""
    return "█" * round(BAR * probability)


def short(text: str, length: int = 60) -> str:
    """A text from anywhere as one line of at most `length` characters."""
    return truncate(printable(one_line(text[: 10 * length])), length)
