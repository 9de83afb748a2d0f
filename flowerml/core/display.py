"""Text from anywhere (names, errors, servers) made fit for a message to a person."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

MAX_PRINTABLE = 300  # characters
CLOSE = 0.5  # difflib's ratio: finds a misspelling (`lek` for `leak`) and not another word of the same letters


def printable(text: str, limit: int | None = MAX_PRINTABLE) -> str:
    r"""Return text on one line: what a terminal would obey is escaped, and a long middle is cut out.

    >>> printable("a\n\x1b[31mb")
    'a\\n\\x1b[31mb'
    """
    # Cut before as well, as a name from an archive may be of any length, and after, as escapes are longer.
    return _without_middle("".join(map(_escape, _without_middle(text, limit))), limit)


def visible(text: str) -> str:
    r"""Return text of any length with its line ends and spaces; all else that a terminal would obey is escaped.

    These are control characters, characters that reverse the direction of text or have no width, and lone surrogates.

    >>> visible("a\n\x1b[31mb\u202e")
    'a\n\\x1b[31mb\\u202e'
    """
    return text if text.isprintable() else "".join(map(_escape_commands, text))


def one_line(value: object, limit: int | None = None) -> str:
    r"""Return the text of an error or a value with its line ends and runs of spaces as single spaces.

    >>> one_line(ValueError("no such\n  table"))
    'no such table'
    """
    return " ".join(str(value).split())[:limit]


def truncate(text: str, limit: int) -> str:
    """Return text of at most `limit` characters; a cut is marked by an ellipsis.

    Not textwrap.shorten, which drops a first word that is too long (a path, an id) and shows nothing.

    >>> truncate("photographs", 6)
    'photo…'
    """
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def preview_list(names: Sequence[str], count: int = 5) -> str:
    """Return the first `count` names, separated by commas.

    >>> preview_list(["rose", "tulip", "lily"], 2)
    'rose, tulip, …'
    """
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def format_size(size: int) -> str:
    """Return a number of bytes in the largest fitting unit.

    >>> format_size(256 * 2**20)
    '256 MiB'
    """
    for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB")):
        if size < 1024 ** (power + 1):
            return f"{size / 1024**power:.4g} {unit}"
    return f"{size / 1024**4:.4g} TiB"


def display_path(path: Path) -> str:
    """Return where a path leads: the pipeline reads through links, and a person knows the file behind one."""
    return printable(str(path.resolve()))


def closest(name: object, names: Iterable[object], count: int = 1) -> list[str]:
    """Return the names that `name` may be a misspelling of, the closest first.

    >>> closest("lek", ["leak", "duplicate"])
    ['leak']
    """
    return difflib.get_close_matches(str(name), [str(known) for known in names], n=count, cutoff=CLOSE)


def did_you_mean(name: object, names: Iterable[object]) -> str:
    """Return a question that proposes the closest name; empty where none is close.

    >>> did_you_mean("lek", ["leak", "duplicate"])
    "did you mean 'leak'?"
    """
    return next((f"did you mean {match!r}?" for match in closest(name, names)), "")


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def _escape_commands(character: str) -> str:
    is_space = character == "\n" or unicodedata.category(character) == "Zs"  # no-break, ideographic, …
    return character if is_space else _escape(character)


def _without_middle(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    return f"{text[: limit // 2]}…{text[-(limit // 2) + 1 :]}"
