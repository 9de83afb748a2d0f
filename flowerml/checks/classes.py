"""What can be told from classes and their sizes alone."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from flowerml.core.display import preview_list, printable
from flowerml.data.findings import Finding
from flowerml.data.layout import Row, to_nfc
from flowerml.data.split import SPLITS

NAMED = 5  # classes that a sentence names


def findings(
    rows: Sequence[Row], kept: Sequence[Row], folders: Iterable[str], *, tiny_class: int, imbalance: float
) -> Iterator[Finding]:
    """What is wrong with the classes of the listed `rows`, of which those `kept` can be read.

    `folders` are the names of class folders that hold no example at all.
    """
    sizes = Counter(row.label for row in kept)
    empty = sorted({row.label for row in rows} - set(sizes)) + sorted(folders)
    if empty:
        yield _of_classes("empty_class", empty)
    tiny = {label: f"{size:,}" for label, size in sorted(sizes.items()) if size < tiny_class}
    if tiny:
        yield _of_classes("tiny_class", [f"{label} ({size})" for label, size in tiny.items()])
    alike = list(_alike(rows))
    if alike:
        yield _of_classes("colliding_class_names", alike)
    missing = list(_missing(kept))
    if missing:
        yield _of_classes("missing_in_split", missing)
    yield from _imbalance(kept, imbalance)


def empty_folders(source: Path, rows: Sequence[Row], skipped: Iterable[str], suffixes: Collection[str]) -> set[str]:
    """The names of folders beside those of the classes in which there is no file of a kind that is read."""
    at = next((place for row in rows[:1] if (place := _place(row)) is not None), None)
    if at is None:
        return set()
    labels = {row.label for row in rows}
    above = {PurePosixPath(row.id).parts[:at] for row in rows}
    found = set()
    for id in skipped:
        parts = PurePosixPath(id).parts
        if len(parts) > at + 1 and parts[:at] in above:
            found.add(to_nfc(parts[at]))
    if source.is_dir():
        for parts in above:
            found |= {to_nfc(path.name) for path in _folders(source.joinpath(*parts)) if not _holds(path, suffixes)}
    return {name for name in found - labels if not name.startswith((".", "__MACOSX"))}


def _place(row: Row) -> int | None:
    """Where in a row's path its class stands."""
    parts = PurePosixPath(row.id).parts[:-1]
    return next((place for place, part in enumerate(parts) if to_nfc(part) == row.label), None)


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir() and not inner.is_symlink())


def _holds(folder: Path, suffixes: Collection[str]) -> bool:
    return any(Path(name).suffix.lower() in suffixes for _, _, names in os.walk(folder) for name in names)


def _alike(rows: Sequence[Row]) -> Iterator[str]:
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        place = _place(row)
        name = row.label if place is None else PurePosixPath(row.id).parts[place]
        names[re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()].add(name)
    for _, group in sorted(names.items()):
        if len(group) > 1:
            yield " and ".join(
                ascii(name) if len({to_nfc(one) for one in group}) == 1 else repr(name) for name in sorted(group)
            )


def _missing(kept: Sequence[Row]) -> Iterator[str]:
    found: dict[str | None, set[str]] = defaultdict(set)
    for row in kept:
        found[row.split].add(row.label)
    every = set().union(*found.values())
    for split in SPLITS:
        if split in found:
            yield from (f"{label} (no {split})" for label in sorted(every - found[split]))


def _imbalance(kept: Sequence[Row], limit: float) -> Iterator[Finding]:
    sizes = Counter(row.label for row in kept if row.split in ("train", None))
    if sizes:
        (most, count), (least, few) = sizes.most_common()[0], sizes.most_common()[-1]
        if count > limit * few:
            detail = f"{printable(most)} has {count:,}, {printable(least)} has {few:,}"
            yield Finding("imbalance", 2, "classes", [[most], [least]], {most: f"{count:,}", least: f"{few:,}"}, detail)


def _of_classes(name: str, classes: list[str]) -> Finding:
    told = preview_list([printable(name) for name in classes], NAMED)
    things = "class" if len(classes) == 1 else "classes"
    if name == "colliding_class_names":
        things = "group of class names" if len(classes) == 1 else "groups of class names"
    return Finding(name, len(classes), things, [[one] for one in classes], {}, told)
