"""build/docs: the pages of docs/ with those made from other files, and links that stay inside."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from docsite.markdown import DOCS, REPOSITORY, Page

FOLDER = REPOSITORY / "build" / "docs"
# Files at the top that are pages of the site, by their page.
TOPS = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "index.md": "README.md"}
STYLE = Path(__file__).with_name("site.css")
FILES = "files"  # holds what pages link to and what is no page


def stage() -> Path:
    """Write build/docs anew and return it; notebooks are added by `docsite.notebooks`."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(DOCS, FOLDER)
    sources = {path.relative_to(DOCS).as_posix(): path for path in DOCS.rglob("*.md")}
    sources = {name: REPOSITORY / top for name, top in TOPS.items()} | sources
    places = {source.resolve(): name for name, source in sources.items()}
    places.setdefault(REPOSITORY / "README.md", "index.md")
    shutil.copy(STYLE, FOLDER / STYLE.name)
    for name, source in sources.items():
        (FOLDER / name).write_text(relinked(Page(source), name, places), encoding="utf-8")
    return FOLDER


def relinked(page: Page, name: str, places: Mapping[Path, str]) -> str:
    """Return the text of a page as the page `name` of the site, with its links changed accordingly.

    A link to a page that is made from another file leads to that page. Any other file is copied into the site.
    """
    text = page.text
    for target in {link.target for link in page.links()}:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc or not parts.path:
            continue
        path = (page.path.parent / unquote(parts.path)).resolve()
        place = places.get(path) or _placed(path)
        relative = quote(os.path.relpath(place, Path(name).parent))
        new = f"{relative}#{parts.fragment}" if parts.fragment else relative
        for before, after in (("](", ")"), ("](<", ">)"), ('src="', '"'), ('href="', '"'), ('srcset="', '"')):
            text = text.replace(f"{before}{target}{after}", f"{before}{new}{after}")
    return text


def _placed(path: Path) -> str:
    """Return where the site has a file of the repository, which is copied there; of docs/, it is there already."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    place = f"{FILES}/{path.relative_to(REPOSITORY).as_posix()}"
    if path.is_file():
        (FOLDER / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, FOLDER / place)
    return place
