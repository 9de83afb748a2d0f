"""What the site is built from: the pages of docs/ with those made from other files, and links that stay inside."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from docsite.markdown import DOCS, REPOSITORY, Page

# Files at the top that are pages of the site, by their page.
TOPS = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
STYLE = Path(__file__).with_name("site.css")
FILES = "files"  # holds what pages link to and what is no page


def stage(folder: Path) -> None:
    """Write `folder` anew; notebooks are added by `docsite.notebooks`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, folder)
    sources = {path.relative_to(DOCS).as_posix(): path for path in DOCS.rglob("*.md")}
    sources = {name: REPOSITORY / top for name, top in TOPS.items()} | sources
    places = {source.resolve(): name for name, source in sources.items()}
    places[REPOSITORY / "README.md"] = "index.md"
    places |= {path: f"notebooks/{path.stem}.md" for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    shutil.copy(STYLE, folder / STYLE.name)
    for name, source in sources.items():
        (folder / name).write_text(relinked(Page(source), name, places, folder), encoding="utf-8")


def relinked(page: Page, name: str, places: Mapping[Path, str], folder: Path) -> str:
    """Return the text of a page as the page `name` of the site, with its links changed accordingly.

    A link to a page that is made from another file leads to that page. Any other file is copied into the site.
    """
    text = _without_flags(page)
    for target in {link.target for link in page.links()}:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc or not parts.path:
            continue
        path = (page.path.parent / unquote(parts.path)).resolve()
        place = places.get(path) or _placed(path, folder)
        relative = quote(os.path.relpath(place, Path(name).parent))
        new = f"{relative}#{parts.fragment}" if parts.fragment else relative
        for before, after in (("](", ")"), ("](<", ">)"), ('src="', '"'), ('href="', '"'), ('srcset="', '"')):
            text = text.replace(f"{before}{target}{after}", f"{before}{new}{after}")
    return text


def _without_flags(page: Page) -> str:
    """Return the text of a page without the words behind the language of a fence: the site would show no fence."""
    lines = page.text.split("\n")
    for fence in page.fences():
        if fence.flags:
            line = lines[fence.line - 1]
            lines[fence.line - 1] = line[: line.index(fence.language) + len(fence.language)]
    return "\n".join(lines)


def _placed(path: Path, folder: Path) -> str:
    """Return where the site has a file of the repository, which is copied there; of docs/, it is there already."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    place = f"{FILES}/{path.relative_to(REPOSITORY).as_posix()}"
    if path.is_file():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / place)
    return place
