"""What the generated pages share: their first line, tables and code."""

from collections.abc import Iterable, Sequence

COMMENT = "<!-- Made from the code by `make reference`; a change made here is lost. -->"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a table in Markdown.

    >>> print(table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    | --- | --- |
    | 1 | x\\|y |
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell(value) for value in line)} |" for line in lines)


def cell(text: str) -> str:
    """Return a text in one line, with its bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Return a text as code."""
    return f"`{text}`"


def join(*parts: str) -> str:
    """Return the parts of a page, with an empty line between them."""
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"
