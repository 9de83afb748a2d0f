"""Problems with classes: their names, their sizes, and the splits they are in."""

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

MAX_NAMED = 5  # classes that a message names
# Between letters or digits only: a hyphen elsewhere may be a sign, as in -1, t_-1 and C-.
SEPARATOR = re.compile(r"(?<=[^\W_])(?:[\s_]+|-)(?=[^\W_])")


def findings(
    rows: Sequence[Row], kept: Sequence[Row], folders: Iterable[str], *, tiny_class: int, imbalance: float
) -> Iterator[Finding]:
    """Yield the findings on the classes of the listed `rows`, of which `kept` are readable.

    `folders` are the names of class folders without any example. `tiny_class` and `imbalance` are the limits of
    `data.checks` in params.yaml.
    """
    sizes = Counter(row.label for row in kept)
    empty = sorted({row.label for row in rows} - set(sizes)) + sorted(folders)
    if empty:
        yield _of_classes("empty_class", empty)
    tiny = {label: f"{size:,}" for label, size in sorted(sizes.items()) if size < tiny_class}
    if tiny:
        yield _of_classes("tiny_class", [f"{label} ({size})" for label, size in tiny.items()])
    colliding = list(_colliding_names(rows))
    if colliding:
        yield _of_classes("colliding_class_names", colliding)
    missing = list(_missing_in_split(kept))
    if missing:
        yield _of_classes("missing_in_split", missing)
    yield from _imbalance(kept, imbalance)


def empty_folders(source: Path, rows: Sequence[Row], skipped: Iterable[str], suffixes: Collection[str]) -> set[str]:
    """Return the names of the folders beside the class folders that hold no file with one of the suffixes."""
    depth = next((depth for row in rows[:1] if (depth := _class_depth(row)) is not None), None)
    if depth is None:
        return set()
    labels = {row.label for row in rows}
    parents = {PurePosixPath(row.id).parts[:depth] for row in rows}
    names = set()
    for id in skipped:
        parts = PurePosixPath(id).parts
        if len(parts) > depth + 1 and parts[:depth] in parents:
            names.add(to_nfc(parts[depth]))
    if source.is_dir():
        for parts in parents:
            folders = _folders(source.joinpath(*parts))
            names |= {to_nfc(path.name) for path in folders if not _has_file(path, suffixes)}
    return {name for name in names - labels if not name.startswith((".", "__MACOSX"))}


def _class_depth(row: Row) -> int | None:
    """Return the index of the class folder in a row's path; None where no folder is named as the class."""
    parts = PurePosixPath(row.id).parts[:-1]
    return next((depth for depth, part in enumerate(parts) if to_nfc(part) == row.label), None)


def _folders(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir() and not child.is_symlink())


def _has_file(folder: Path, suffixes: Collection[str]) -> bool:
    return any(Path(name).suffix.lower() in suffixes for _, _, names in os.walk(folder) for name in names)


def _colliding_names(rows: Sequence[Row]) -> Iterator[str]:
    names: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        depth = _class_depth(row)
        name = row.label if depth is None else PurePosixPath(row.id).parts[depth]
        names[SEPARATOR.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip()].add(name)
    for _, group in sorted(names.items()):
        if len(group) > 1:
            # Names that look the same (composed and decomposed accents) are distinguished by their escapes.
            show = ascii if len(set(map(to_nfc, group))) == 1 else repr
            yield " and ".join(map(show, sorted(group)))


def _missing_in_split(kept: Sequence[Row]) -> Iterator[str]:
    labels: dict[str | None, set[str]] = defaultdict(set)
    for row in kept:
        labels[row.split].add(row.label)
    all_labels = set().union(*labels.values())
    for split in SPLITS:
        if split in labels:
            yield from (f"{label} (no {split})" for label in sorted(all_labels - labels[split]))


def _imbalance(kept: Sequence[Row], limit: float) -> Iterator[Finding]:
    sizes = Counter(row.label for row in kept if row.split in ("train", None))
    if sizes:
        (most, count), (least, few) = sizes.most_common()[0], sizes.most_common()[-1]
        if count > limit * few:
            detail = f"{printable(most)} has {count:,}, {printable(least)} has {few:,}"
            yield Finding("imbalance", 2, "classes", [[most], [least]], {most: f"{count:,}", least: f"{few:,}"}, detail)


def _of_classes(name: str, classes: list[str]) -> Finding:
    detail = preview_list([printable(name) for name in classes], MAX_NAMED)
    things = "class" if len(classes) == 1 else "classes"
    if name == "colliding_class_names":
        things = "group of class names" if len(classes) == 1 else "groups of class names"
    return Finding(name, len(classes), things, [[label] for label in classes], {}, detail)
