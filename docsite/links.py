"""Dead links: targets that are not there, seen from a page as a git host and as the site shows it."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docsite.markdown import REPOSITORY, Link, Page

SCHEMES = ("https", "http", "mailto")


def dead(page: Page) -> Iterator[str]:
    """Yield a line for each link of a page that leads nowhere; addresses of other hosts are checked for form alone."""
    for link in page.links():
        if problem := _problem(page, link):
            yield f"{page.name}:{link.line}: {link.target}: {problem}"


def _problem(page: Page, link: Link) -> str | None:
    parts = urlsplit(link.target)
    if parts.scheme or parts.netloc:
        good = parts.scheme in SCHEMES and (parts.hostname or parts.scheme == "mailto")
        return None if good and " " not in link.target else "expected an address such as https://host/, or a path"
    path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
    if not path.exists():
        return "no such file; correct the path"
    if not path.is_relative_to(REPOSITORY):
        return "outside of the repository"
    return _missing_anchor(path, parts.fragment) if parts.fragment else None


@cache
def _anchors(path: Path) -> set[str]:
    return Page(path).anchors()


def _missing_anchor(path: Path, fragment: str) -> str | None:
    if path.suffix != ".md":
        return None
    anchors = _anchors(path)
    if fragment in anchors:
        return None
    return f"no such heading in {path.name}; there are {', '.join(sorted(anchors))}"
