"""The examples of a source: the class and the split of each file, by the folders it is in."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from flowerml.core.display import display_path, printable
from flowerml.core.errors import DataError
from flowerml.data.archives import members
from flowerml.data.archives.members import DEFAULT_LIMITS, ArchiveLimits, Member
from flowerml.data.folders import (
    SPLITS,
    LayoutError,
    layout,
    split_name,
    unlabelled_splits,
)

__all__ = ["SPLITS", "Listing", "Row", "list_files", "read_files", "skipped_summary", "split_name", "to_nfc"]

ARCHIVES = frozenset(
    {".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".zst", ".tzst", ".7z", ".rar"}
)
DUPLICATE = "a second file of this name"
NOT_READ = ": not one of "  # between the ending of a file and those that are read
ON_LINE = " (line "  # before what differs from row to row in one reason
ROW_ID = re.compile(r"(^| )row \d+$")
SHOWN_REASONS = 4  # in a summary of the skipped files


@dataclass(frozen=True)
class Row:
    """One example before it is read. `split` is None where the source has no splits.

    All examples of a `group` are dealt into one split. Files of different `size` (bytes) have different contents; None
    where that is not known without reading them.
    """

    id: str
    label: str
    split: str | None = None
    group: str | None = None
    size: int | None = field(default=None, compare=False)


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
    path: Path,
    *,
    suffixes: Collection[str],
    labelled: bool = True,
    limits: ArchiveLimits = DEFAULT_LIMITS,
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> Listing:
    """List the files of a folder or archive laid out as [top/][train|valid|test/]CLASS/[…/]FILE.

    Splits may have other names that stand for one, such as seg_train or Testing; see `folders.layout`. Folders that
    hold everything are ignored. Hidden files and `__MACOSX` are skipped silently; everything else that cannot be an
    example is skipped and reported. Class names are in Unicode's composed form (NFC). Unless `labelled`, files may be
    in any folders, and their label is "". `reasons` say why files of some other suffixes are not read. Raises DataError
    where no example is found, and for an ambiguous layout.
    """
    listing = Listing()
    hidden: list[str] = []
    sizes = {member.name: member.size for member in _candidates(path, suffixes, reasons, listing, hidden, limits)}
    try:
        if labelled:
            _add_labelled(sizes, listing)
        else:
            _add_unlabelled(sizes, listing)
    except LayoutError as error:
        raise DataError(f"{display_path(path)}: {error}") from None
    if not listing.rows:
        expected = "one folder per class holding" if labelled else "a folder or archive of"
        reason = _main_reason(listing)
        raise DataError(f"{display_path(path)}: no examples found; expected {expected} {_join(suffixes)} files{reason}")
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
    path: Path,
    suffixes: Collection[str],
    reasons: Mapping[str, str],
    listing: Listing,
    hidden: list[str],
    limits: ArchiveLimits,
) -> Iterator[Member]:
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
                yield member
        elif suffix in ARCHIVES:
            listing.skip(member.name, f"an archive inside the {kind} is not opened: unpack it")
        else:
            listing.skip(member.name, suffix_problem(member.name, suffixes, reasons))


def suffix_problem(name: str, suffixes: Collection[str], reasons: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return why a file whose name does not end in one of the suffixes is not read."""
    suffix = PurePosixPath(name).suffix.lower()
    return reasons.get(suffix) or f"{printable(suffix) or 'no suffix'}{NOT_READ}{_join(suffixes)}"


def _is_hidden(name: str, beginnings: tuple[str, ...] = ("__MACOSX", ".")) -> bool:
    return any(part.startswith(beginnings) and part != ".." for part in name.split("/"))


def _join(suffixes: Collection[str]) -> str:
    return ", ".join(sorted(suffixes))


def _add_labelled(sizes: Mapping[str, int | None], listing: Listing) -> None:
    arrangement = layout(sizes)
    for name, size in sizes.items():
        place = arrangement.place(name)
        if isinstance(place, str):
            listing.skip(name, place)
        else:
            listing.rows.append(Row(name, to_nfc(place.label), place.split, size=size))


def _add_unlabelled(sizes: Mapping[str, int | None], listing: Listing) -> None:
    splits = unlabelled_splits(sizes) or {}
    listing.rows.extend(Row(name, "", splits.get(name), size=size) for name, size in sizes.items())


def skipped_summary(skipped: Sequence[Mapping[str, str]], *, total: int | None = None) -> str:
    """Return a line on skipped files or rows ({"id", "reason"}): how many of each kind; "" where there are none.

    `total` is their number where `skipped` holds only the first of them.

    >>> skipped_summary([{"id": "a/1.heic", "reason": ".heic: not one of .jpg"}, {"id": "2.jpg", "reason": "empty"}])
    'left out 2 files: 1 .heic (such as a/1.heic; .jpg are read); 1 empty (2.jpg)'
    """
    if not skipped:
        return ""
    total = len(skipped) if total is None else total
    reasons = Counter(_reason(file) for file in skipped)
    first = {_reason(file): printable(file["id"]) for file in reversed(skipped)}
    parts = []
    for reason, count in reasons.most_common(SHOWN_REASONS):
        kind, not_read, endings = reason.partition(NOT_READ)
        such_as = f"such as {first[reason]}" if count > 1 or not_read else first[reason]
        parts.append(f"{count:,} {kind} ({such_as}{f'; {endings} are read' if not_read else ''})")
    more = total - sum(count for _, count in reasons.most_common(SHOWN_REASONS))
    parts += [f"{more:,} for other reasons"] if more else []
    noun = "row" if all(ROW_ID.search(file["id"]) for file in skipped) else "file"
    return f"left out {total:,} {noun}{'s' * (total != 1)}: {'; '.join(parts)}"


def _reason(skipped: Mapping[str, str]) -> str:
    return skipped["reason"].partition(ON_LINE)[0]


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
