"""A page of Markdown as its fences, headings and links, each with its line."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PARSER = MarkdownIt("commonmark").enable("table")
RUNS_AFTER = re.compile(r"<!-- runs after: (\S+) -->")


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language, the flags after it, its text, and the line that it starts in."""

    language: str
    flags: tuple[str, ...]
    text: str
    line: int


@dataclass(frozen=True)
class Link:
    """The target of a link or a picture, and the line of its paragraph."""

    target: str
    line: int


@dataclass(frozen=True)
class Page:
    """A page of the repository.

    >>> Page(REPOSITORY / "README.md").name
    'README.md'
    """

    path: Path

    @property
    def name(self) -> str:
        """Return its path in the repository."""
        return self.path.relative_to(REPOSITORY).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return PARSER.parse(self.text)

    def fences(self) -> Iterator[Fence]:
        """Yield its fenced blocks in order."""
        for token in self._tokens:
            if token.type == "fence":
                language, *flags = token.info.split() or [""]
                yield Fence(language, tuple(flags), token.content, _line(token))

    def links(self) -> Iterator[Link]:
        """Yield the targets of its links and pictures, those in HTML included."""
        for token in self._tokens:
            for part in [token, *(token.children or [])]:
                for attribute in ("href", "src"):
                    if part.attrs.get(attribute):
                        yield Link(str(part.attrs[attribute]), _line(token))
                if part.type in ("html_block", "html_inline"):
                    for target in re.findall(r"""\b(?:href|src|srcset)=["']([^"' ]+)""", part.content):
                        yield Link(target, _line(token))

    def headings(self) -> list[str]:
        """Return the texts of its headings, without markup."""
        pairs = zip(self._tokens, self._tokens[1:], strict=False)
        return [_plain(inline) for token, inline in pairs if token.type == "heading_open"]

    def anchors(self) -> set[str]:
        """Return the anchors that both a git host and the site give to its headings."""
        return numbered(map(host_slug, self.headings()), "-") & numbered(map(site_slug, self.headings()), "_")

    def runs_after(self) -> str | None:
        """Return the page whose folder this page's commands need, as its first comment says."""
        match = RUNS_AFTER.search(self.text)
        return match and match[1]


def pages() -> list[Page]:
    """Return the pages that people read: those of docs/ and those at the top of the repository."""
    tops = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [Page(path) for path in [*tops, *sorted(DOCS.rglob("*.md"))]]


def host_slug(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading.

    >>> host_slug("HTTP: `/predict` & more")
    'http-predict--more'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def site_slug(heading: str) -> str:
    """Return the anchor that Python-Markdown gives to a heading.

    >>> site_slug("HTTP: `/predict` & more")
    'http-predict-more'
    """
    ascii_only = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower())


def numbered(slugs: Iterator[str], mark: str) -> set[str]:
    """Return slugs as anchors: the second of two equal ones is numbered."""
    seen: dict[str, int] = {}
    anchors = set()
    for slug in slugs:
        count = seen[slug] = seen.get(slug, -1) + 1
        anchors.add(f"{slug}{mark}{count}" if count else slug)
    return anchors


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 0


def _plain(inline: Token) -> str:
    return "".join(part.content for part in inline.children or [] if part.type in ("text", "code_inline"))
