"""The layout of a source: the class and the split of each file, by the folders it is in."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from flowerml.core.display import display_path, printable
from flowerml.core.errors import DataError
from flowerml.data.archives import members
from flowerml.data.archives.members import DEFAULT_LIMITS, ArchiveLimits

SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
}
ARCHIVES = frozenset(
    {".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".zst", ".tzst", ".7z", ".rar"}
)
DUPLICATE = "a second file of this name"


@dataclass(frozen=True)
class Row:
    """One example before it is read. `split` is None where the source has no splits.

    All examples of a `group` are dealt into one split.
    """

    id: str
    label: str
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """The content of a source: its rows, the skipped files ({"id", "reason"}) and warnings of one line.

    The ids of skipped files are printable.

    >>> listing = Listing([Row("rose/1.jpg", "rose")])
    >>> listing.skip("rose/notes\\n.txt", ".txt: not one of .jpg")
    >>> listing.skipped
    [{'id': 'rose/notes\\\\n.txt', 'reason': '.txt: not one of .jpg'}]
    """

    rows: list[Row] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append({"id": printable(name), "reason": reason})


def list_files(
    path: Path, *, suffixes: Collection[str], labelled: bool = True, limits: ArchiveLimits = DEFAULT_LIMITS
) -> Listing:
    """List the files of a folder or archive laid out as [top/][train|valid|val|test/]CLASS/[…/]FILE.

    Folders that hold everything are ignored. Hidden files and `__MACOSX` are skipped silently; everything else that
    cannot be an example is skipped and reported. Class names are in Unicode's composed form (NFC). Not `labelled`: the
    files may lie in any folders, and their label is "". Raises DataError where no example is found.
    """
    listing = Listing()
    hidden: list[str] = []
    names = list(_candidates(path, suffixes, listing, hidden, limits))
    if labelled:
        _add_labelled(names, listing)
    else:
        _add_unlabelled(names, listing)
    if not listing.rows:
        layout = "one folder per class holding" if labelled else "a folder or archive of"
        raise DataError(
            f"{display_path(path)}: no examples found; expected {layout} {_join(suffixes)} files{_main_reason(listing)}"
        )
    listing.warnings.extend(_warnings(listing, hidden))
    return listing


def read_files(
    path: Path, *, wanted: Collection[str], limits: ArchiveLimits = DEFAULT_LIMITS
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted files in the order of the source; of files with the same name, the first.

    Raises DataError where one is missing or cannot be read.
    """
    missing = set(wanted)
    for member in members(path, limits):
        if member.name in missing and member.problem is None:
            missing.discard(member.name)
            yield member.name, member.read()
    if missing:
        more = f" and {len(missing) - 1:,} more are" if len(missing) > 1 else " is"
        raise DataError(
            f"{display_path(path)}: {printable(min(missing))}{more} missing; re-run the command when the source "
            "no longer changes"
        )


def to_nfc(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): macOS writes é as two characters, other systems as one."""
    return unicodedata.normalize("NFC", name)


def _candidates(
    path: Path, suffixes: Collection[str], listing: Listing, hidden: list[str], limits: ArchiveLimits
) -> Iterator[str]:
    seen = set()
    kind = "folder" if path.is_dir() else "archive"
    for member in members(path, limits):
        suffix = PurePosixPath(member.name).suffix.lower()
        if _is_hidden(member.name):
            # The files that macOS leaves beside every file are not worth a warning.
            if suffix in suffixes and not _is_hidden(member.name, ("__MACOSX", "._")):
                hidden.append(member.name)
        elif member.problem:
            listing.skip(member.name, member.problem)
        elif suffix in suffixes:
            if member.name in seen:
                listing.skip(member.name, DUPLICATE)
            else:
                seen.add(member.name)
                yield member.name
        elif suffix in ARCHIVES:
            listing.skip(member.name, f"an archive inside the {kind} is not opened: unpack it")
        else:
            listing.skip(member.name, f"{printable(suffix) or 'no suffix'}: not one of {_join(suffixes)}")


def _is_hidden(name: str, beginnings: tuple[str, ...] = ("__MACOSX", ".")) -> bool:
    return any(part.startswith(beginnings) and part != ".." for part in name.split("/"))


def _join(suffixes: Collection[str]) -> str:
    return ", ".join(sorted(suffixes))


def _shared_folders(names: Iterable[str], below: int) -> int:
    """Return how many leading folders all names share, leaving at least `below` parts of each."""
    shared: list[str] | None = None
    for name in names:
        folders = name.split("/")[:-below]
        if shared is None:
            shared = folders
        while shared != folders[: len(shared)]:
            shared.pop()
    return len(shared or [])


def _add_labelled(names: list[str], listing: Listing) -> None:
    depth = _shared_folders(names, below=2)
    has_splits = any(_split(name, depth) == "train" and name.count("/") > depth + 1 for name in names)
    for name in names:
        parts = name.split("/")[depth:]
        split = SPLITS.get(parts[0].lower()) if has_splits else None
        if has_splits and split is None:
            listing.skip(name, f"beside train, but {printable(parts[0])!r} is not one of {', '.join(SPLITS)}")
        elif len(parts) < (3 if has_splits else 2):
            listing.skip(name, "not in a class folder")
        else:
            label = to_nfc(parts[1] if has_splits else parts[0])
            listing.rows.append(Row(name, label, split))


def _add_unlabelled(names: list[str], listing: Listing) -> None:
    depth = _shared_folders(names, below=2)
    splits = [_split(name, depth) for name in names]
    has_splits = "train" in splits and None not in splits
    listing.rows.extend(Row(name, "", split if has_splits else None) for name, split in zip(names, splits, strict=True))


def _split(name: str, depth: int) -> str | None:
    return SPLITS.get(name.split("/", depth + 1)[depth].lower())


def _main_reason(listing: Listing) -> str:
    if not listing.skipped:
        return "; it has no files, except hidden ones"
    reason, count = Counter(file["reason"] for file in listing.skipped).most_common(1)[0]
    example = next(file["id"] for file in listing.skipped if file["reason"] == reason)
    return f"; {count:,} of {len(listing.skipped):,} files skipped: {reason} (such as {example})"


def _warnings(listing: Listing, hidden: list[str]) -> Iterator[str]:
    duplicates = [file["id"] for file in listing.skipped if file["reason"] == DUPLICATE]
    if duplicates:
        count = len(duplicates)
        yield f"only the first of several files with the same name is used: skipped {count:,}, such as {duplicates[0]}"
    if hidden:
        yield f"hidden files were skipped: {len(hidden):,}, such as {printable(hidden[0])}"
    similar = _similar({row.label for row in listing.rows})
    if similar:
        classes = "; ".join(" and ".join(repr(printable(label)) for label in labels) for labels in similar[:3])
        more = f" and {len(similar) - 3:,} more" if len(similar) > 3 else ""
        yield f"classes that differ only in case or spaces stay separate: {classes}{more}; rename them if they are one"


def _similar(labels: Iterable[str]) -> list[list[str]]:
    groups = defaultdict(list)
    for label in sorted(labels):
        groups[" ".join(label.casefold().split())].append(label)
    return [group for group in groups.values() if len(group) > 1]
