"""From the names of files to labelled examples: which class a file belongs to, and which split."""

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
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"valid": "valid", "val": "valid", "validation": "valid", "dev": "valid"},
}
ARCHIVES = frozenset(
    {".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".zst", ".tzst", ".7z", ".rar"}
)
SECOND = "a second file of this name"


@dataclass(frozen=True)
class Row:
    """One example before it is read. `split` is None where the source has no splits.

    Examples of one group never part: they are dealt into one split.
    """

    id: str
    label: str
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds: the rows that can be examples, what was passed over ({"id", "reason"}), and warnings.

    The ids of what was passed over are fit to be shown; a warning is a sentence on one line.
    """

    rows: list[Row] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append({"id": printable(name), "reason": reason})


def list_files(
    path: Path, *, suffixes: Collection[str], labelled: bool = True, limits: ArchiveLimits = DEFAULT_LIMITS
) -> Listing:
    """The files of a folder or archive laid out as [top/][train|valid|val|test/]CLASS/[…/]FILE.

    Folders that hold everything are seen through. Hidden files and `__MACOSX` are passed over silently, all else
    that cannot be an example is listed. Classes are in Unicode's composed form (NFC). Not `labelled`: the files may
    lie in any folders and their label is "". Raises DataError when nothing is found.
    """
    listing = Listing()
    hidden: list[str] = []
    names = list(_candidates(path, suffixes, listing, hidden, limits))
    if labelled:
        _place_labelled(names, listing)
    else:
        _place_unlabelled(names, listing)
    if not listing.rows:
        layout = "one folder per class holding" if labelled else "a folder or archive of"
        raise DataError(
            f"{display_path(path)}: no examples found; expected {layout} {_listed(suffixes)} files"
            f"{_most_left_out(listing)}"
        )
    listing.warnings.extend(_warnings(listing, hidden))
    return listing


def read_files(
    path: Path, *, wanted: Collection[str], limits: ArchiveLimits = DEFAULT_LIMITS
) -> Iterator[tuple[str, bytes]]:
    """The contents of the wanted files, in the order of the source; of files with one name, the first.

    Raises DataError where one is not there (any more), or cannot be read.
    """
    missing = set(wanted)
    for member in members(path, limits):
        if member.name in missing and member.problem is None:
            missing.discard(member.name)
            yield member.name, member.read()
    if missing:
        more = f" and {len(missing) - 1:,} more are" if len(missing) > 1 else " is"
        raise DataError(
            f"{display_path(path)}: {printable(min(missing))}{more} not there any more; run again when the source no "
            "longer changes"
        )


def to_nfc(name: str) -> str:
    """A name in Unicode's composed form (NFC). A Mac spells é in two characters, others in one: it is the same."""
    return unicodedata.normalize("NFC", name)


def _candidates(
    path: Path, suffixes: Collection[str], listing: Listing, hidden: list[str], limits: ArchiveLimits
) -> Iterator[str]:
    seen = set()
    kind = "folder" if path.is_dir() else "archive"
    for member in members(path, limits):
        suffix = PurePosixPath(member.name).suffix.lower()
        if _is_hidden(member.name):
            # What a Mac leaves beside every file is of no interest to anyone.
            if suffix in suffixes and not _is_hidden(member.name, ("__MACOSX", "._")):
                hidden.append(member.name)
        elif member.problem:
            listing.skip(member.name, member.problem)
        elif suffix in suffixes:
            if member.name in seen:
                listing.skip(member.name, SECOND)
            else:
                seen.add(member.name)
                yield member.name
        elif suffix in ARCHIVES:
            listing.skip(member.name, f"an archive inside the {kind} is not opened: unpack it")
        else:
            listing.skip(member.name, f"{printable(suffix) or 'no suffix'}: not one of {_listed(suffixes)}")


def _is_hidden(name: str, beginnings: tuple[str, ...] = ("__MACOSX", ".")) -> bool:
    return any(part.startswith(beginnings) and part != ".." for part in name.split("/"))


def _listed(suffixes: Collection[str]) -> str:
    return ", ".join(sorted(suffixes))


def _shared_folders(names: Iterable[str], below: int) -> int:
    """How many leading folders all names share, while `below` parts still remain of each."""
    shared: list[str] | None = None
    for name in names:
        folders = name.split("/")[:-below]
        if shared is None:
            shared = folders
        while shared != folders[: len(shared)]:
            shared.pop()
    return len(shared or [])


def _place_labelled(names: list[str], listing: Listing) -> None:
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


def _place_unlabelled(names: list[str], listing: Listing) -> None:
    depth = _shared_folders(names, below=2)
    splits = [_split(name, depth) for name in names]
    has_splits = "train" in splits and None not in splits
    listing.rows.extend(Row(name, "", split if has_splits else None) for name, split in zip(names, splits, strict=True))


def _split(name: str, depth: int) -> str | None:
    return SPLITS.get(name.split("/", depth + 1)[depth].lower())


def _most_left_out(listing: Listing) -> str:
    if not listing.skipped:
        return "; it holds no file, hidden ones apart"
    reason, count = Counter(one["reason"] for one in listing.skipped).most_common(1)[0]
    example = next(one["id"] for one in listing.skipped if one["reason"] == reason)
    return f"; {count:,} of {len(listing.skipped):,} files left out: {reason} (such as {example})"


def _warnings(listing: Listing, hidden: list[str]) -> Iterator[str]:
    second = [one["id"] for one in listing.skipped if one["reason"] == SECOND]
    if second:
        yield f"of several files of one name the first was taken: left out {len(second):,}, such as {second[0]}"
    if hidden:
        yield f"hidden files were passed over: {len(hidden):,}, such as {printable(hidden[0])}"
    alike = _alike({row.label for row in listing.rows})
    if alike:
        classes = "; ".join(" and ".join(repr(printable(label)) for label in labels) for labels in alike[:3])
        more = f" and {len(alike) - 3:,} more" if len(alike) > 3 else ""
        yield f"classes that differ in case or spaces only are kept apart: {classes}{more}; rename those that are one"


def _alike(labels: Iterable[str]) -> list[list[str]]:
    groups = defaultdict(list)
    for label in sorted(labels):
        groups[" ".join(label.casefold().split())].append(label)
    return [group for group in groups.values() if len(group) > 1]
