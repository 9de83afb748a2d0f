"""Escaping text from anywhere for Markdown, so that none of it is taken for markup."""

import re

from flowerml.core.display import one_line, printable, truncate

MAX_LENGTH = 120  # characters
# An underscore inside a word is no markup; a colon or dot makes a link only in these places.
MARKUP = re.compile(r"([\\`*{}\[\]<>#|~&$@!]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.)", re.IGNORECASE)


def escaped(value: object) -> str:
    r"""Return a value as one line of at most MAX_LENGTH characters without markup, HTML or links.

    >>> print(escaped("**bold** <b> www.example.com"))
    \*\*bold\*\* \<b\> www\.example.com
    """
    return MARKUP.sub(r"\\\1", truncate(printable(one_line(value)), MAX_LENGTH))


def fenced(text: str, language: str) -> str:
    """Return a code block whose fence is longer than any run of backticks in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"
