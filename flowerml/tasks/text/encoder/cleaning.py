"""Cleaning of texts: the steps of the course's `review_to_words`, each optional.

Why not BeautifulSoup: a served model would need it. `text_lines` promises the text that BeautifulSoup gives with
Python's parser; test_encoder.py compares the two.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html.entities import html5
from html.parser import HTMLParser
from importlib import resources
from typing import Literal, TypeVar

from flowerml.tasks.text.encoder.stemming import stem

# Not by `__file__`: a registered model carries this package as an archive.
STOP_WORDS = frozenset(resources.files(__package__).joinpath("stop_words.txt").read_text(encoding="utf-8").split())
"""nltk's list of 179 English stop words (later versions of nltk have more)."""
NEGATIONS = frozenset({"no", "nor", "not", "ain"}).union(
    # The course splits "don't" into "don" and "t", so "don" counts as a negation.
    word
    for word in STOP_WORDS
    if word.endswith("n't") or f"{word}'t" in STOP_WORDS
)
REMEMBERED_WORDS = 2**18
REMEMBERED_LETTERS = 64
PARSER_STEPS = 2 * 10**7  # half a second

T = TypeVar("T")

_SPACED = bytes(byte if chr(byte).isalnum() and byte < 128 else ord(" ") for byte in range(256))
_WORD = re.compile(r"[^\W_]+")
_MARKUP = re.compile(r"<[a-zA-Z/!?]|&[a-zA-Z#]")
_TAG = re.compile(r"<[^<>]*>|&#\d{8,};?")  # int() refuses numbers of thousands of digits
_NOT_TEXT = {"script", "style", "template", "rt", "rp"}
_VOID = {
    "area",
    "base",
    "basefont",
    "bgsound",
    "br",
    "col",
    "command",
    "embed",
    "frame",
    "hr",
    "image",
    "img",
    "input",
    "isindex",
    "keygen",
    "link",
    "menuitem",
    "meta",
    "nextid",
    "param",
    "source",
    "spacer",
    "track",
    "wbr",
}


class Memo(dict[str, T]):
    """A cache of a pure function of a word, bounded in size. Thread-safe.

    >>> lengths = Memo(len)
    >>> lengths["film"], len(lengths)
    (4, 1)
    """

    # Why not functools.lru_cache: a hit takes it 34 ns, a dict 17; and it would keep the long words of strangers.

    def __init__(self, function: Callable[[str], T]) -> None:
        self._function = function

    def __missing__(self, word: str) -> T:
        value = self._function(word)
        if len(self) >= REMEMBERED_WORDS:
            self.clear()
        if len(word) <= REMEMBERED_LETTERS:
            self[word] = value
        return value


_STEMS = Memo(stem)


@dataclass(frozen=True)
class Cleaning:
    """The steps from a text to its stems. With all steps on, the stems equal the course's word for word.

    >>> steps = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
    >>> cleaning = Cleaning(**steps)
    >>> words = cleaning.words(cleaning.lines("The <b>movies</b> end.<br />Begin!"))
    >>> words, [cleaning.reduced(word) for word in words]
    (['the', 'movies', 'end', 'begin'], [None, 'movi', 'end', 'begin'])
    """

    strip_html: bool
    lower_case: bool
    letters_and_digits: bool
    stop_words: Literal["drop", "keep_negations", "keep"]
    stem: bool

    def lines(self, raw: str) -> list[str]:
        """Return the text without HTML, split at <br> (the course removes <br> without leaving a space)."""
        return text_lines(raw) if self.strip_html else [raw]

    def words(self, lines: list[str]) -> list[str]:
        """Return the words, including stop words."""
        text = "".join(lines)
        if self.lower_case:
            text = text.lower()
        if self.letters_and_digits:
            return text.encode("ascii", "replace").translate(_SPACED).decode().split()
        return _WORD.findall(text)

    def reduced(self, word: str) -> str | None:
        """Return the dictionary form of a word, None if the word is dropped."""
        if word in self._dropped:
            return None
        return _STEMS[word] if self.stem else word

    @cached_property
    def _dropped(self) -> frozenset[str]:
        kept = {"drop": frozenset[str](), "keep_negations": NEGATIONS, "keep": STOP_WORDS}
        return STOP_WORDS - kept[self.stop_words]


def text_lines(markup: str) -> list[str]:
    """Return the text of BeautifulSoup(markup, "html.parser").get_text(), split at each <br>.

    Never raises: a regular expression removes the tags where Python's parser fails or would take seconds.

    >>> text_lines("Tom &amp; <i>Jerry</i><br />The End")
    ['Tom & Jerry', 'The End']
    """
    lines = markup.split("<br />")
    text = "".join(lines)
    if ("<" not in text and "&" not in text) or not _MARKUP.search(text):  # the first test is faster
        return lines
    if markup.count("<") * len(markup) > PARSER_STEPS:  # the parser's cost if no tag is ever closed
        return _strip_tags(markup)
    parser = _TextParser()
    try:
        parser.feed(markup)
        parser.close()
    except (AssertionError, ValueError):  # a broken declaration; a number of thousands of digits
        return _strip_tags(markup)
    return ["".join(line) for line in parser.lines]


def _strip_tags(markup: str) -> list[str]:
    return ["".join(map(html.unescape, _TAG.split(line))) for line in markup.split("<br />")]


class _TextParser(HTMLParser):
    """A parser that collects the text as BeautifulSoup does, including its handling of entities and unclosed tags."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.lines: list[list[str]] = [[]]
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "br":
            self.lines.append([])
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if _NOT_TEXT.isdisjoint(self._open):
            self.lines[-1].append(data)

    def handle_entityref(self, name: str) -> None:
        self.handle_data(html5.get(f"{name};", f"&{name}"))

    def handle_charref(self, name: str) -> None:
        number = int(name[1:], 16) if name[0] in "xX" else int(name)
        self.handle_data(_character(number))

    def unknown_decl(self, data: str) -> None:
        if data.upper().startswith("CDATA["):
            self.lines[-1].append(data[len("CDATA[") :])


def _character(number: int) -> str:
    """Return the character of a numeric entity; numbers below 256 are read as Windows-1252, as BeautifulSoup does."""
    if number < 256:
        return bytes([number]).decode("windows-1252", errors="ignore") or chr(number)
    return chr(number) if number < 0x110000 else "\N{REPLACEMENT CHARACTER}"
