"""From a text as it came to its words: the steps of the course's `review_to_words`, each of which can be left out."""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from html.entities import html5
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal, TypeVar

from flowerml.tasks.text.encoder.stemming import stem

STOP_WORDS = frozenset(Path(__file__).with_name("stop_words.txt").read_text(encoding="utf-8").split())
"""nltk's English stop words, as they were when there were 179."""
NEGATIONS = frozenset({"no", "nor", "not", "ain"}).union(
    # The course splits "don't" into "don" and "t", so that "don" is what is left of a negation.
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
    *("area", "base", "basefont", "bgsound", "br", "col", "command", "embed", "frame", "hr", "image", "img", "input"),
    *("isindex", "keygen", "link", "menuitem", "meta", "nextid", "param", "source", "spacer", "track", "wbr"),
}


class Memo(dict[str, T]):
    """A pure function of a word that remembers what it gave; strangers' words cannot fill the memory.

    May be used from many threads at once.
    """

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
    """The steps from a text to its stems. With all of them the stems are, word for word, those of the course."""

    strip_html: bool
    lower_case: bool
    letters_and_digits: bool
    stop_words: Literal["drop", "keep_negations", "keep"]
    stem: bool

    def lines(self, raw: str) -> list[str]:
        """The text without HTML, cut at <br>, which the course takes out without leaving a space."""
        return text_lines(raw) if self.strip_html else [raw]

    def words(self, lines: list[str]) -> list[str]:
        """The words that the course sees, stop words among them."""
        text = "".join(lines)
        if self.lower_case:
            text = text.lower()
        if self.letters_and_digits:
            return text.encode("ascii", "replace").translate(_SPACED).decode().split()
        return _WORD.findall(text)

    def reduced(self, word: str) -> str | None:
        """What stands for a word in the dictionary, None for one that is dropped."""
        if word in self._dropped:
            return None
        return _STEMS[word] if self.stem else word

    @cached_property
    def _dropped(self) -> frozenset[str]:
        kept = {"drop": frozenset[str](), "keep_negations": NEGATIONS, "keep": STOP_WORDS}
        return STOP_WORDS - kept[self.stop_words]


def text_lines(markup: str) -> list[str]:
    """The text that BeautifulSoup(markup, "html.parser").get_text() gives, cut at each <br>.

    Never raises. Where the markup is such that Python's parser gives up or would take seconds, tags are cut out by
    a regular expression.
    """
    lines = markup.split("<br />")
    text = "".join(lines)
    if ("<" not in text and "&" not in text) or not _MARKUP.search(text):  # the first half is the faster one
        return lines
    if markup.count("<") * len(markup) > PARSER_STEPS:  # what it takes when no tag is ever closed
        return _roughly(markup)
    parser = _Text()
    try:
        parser.feed(markup)
        parser.close()
    except (AssertionError, ValueError):  # a broken declaration; a number of thousands of digits
        return _roughly(markup)
    return ["".join(line) for line in parser.lines]


def _roughly(markup: str) -> list[str]:
    return ["".join(map(html.unescape, _TAG.split(line))) for line in markup.split("<br />")]


class _Text(HTMLParser):
    """Collects what BeautifulSoup takes for text, doing with entities and unclosed tags as it does."""

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
    """The character of a numeric entity; below 256 they are often meant in Windows' encoding."""
    if number < 256:
        return bytes([number]).decode("windows-1252", errors="ignore") or chr(number)
    return chr(number) if number < 0x110000 else "\N{REPLACEMENT CHARACTER}"
