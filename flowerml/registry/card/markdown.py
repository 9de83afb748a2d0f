"""Texts from anywhere in Markdown, where they must not be taken for markup."""

import re
from typing import Any

from flowerml.core.display import one_line, printable, truncate

LONGEST = 120  # characters
# An underscore within a word is one; a colon or dot is of a link only here.
MARKUP = re.compile(r"([\\`*{}\[\]<>#|~&$@!]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.)", re.IGNORECASE)


def escaped(value: Any) -> str:
    """A value as one line of at most LONGEST characters, in which Markdown sees no markup, no HTML and no link."""
    return MARKUP.sub(r"\\\1", truncate(printable(one_line(value)), LONGEST))


def fenced(text: str, language: str) -> str:
    """A block of code, fenced by more backticks than are in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"
