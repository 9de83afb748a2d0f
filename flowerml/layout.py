"""From the names of files to labelled examples: which class a file belongs to, and which split."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from flowerml.archive import members
from flowerml.errors import DataError

SPLITS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"valid": "valid", "val": "valid", "validation": "valid", "dev": "valid"},
}


@dataclass(frozen=True)
class Row:
    """One example before it is read. `split` is None where the source has no splits."""

    id: str
    label: str
    split: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds: the rows that can be examples, and what was passed over ({"id", "reason"})."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append({"id": name, "reason": reason})


def list_files(path: Path, *, suffixes: Collection[str]) -> Listing:
    """The files of a folder or archive laid out as [top/][train|valid|val|test/]CLASS/[…/]FILE.

    Folders that hold everything are seen through. Hidden files and `__MACOSX` are passed over silently, all else
    that cannot be an example is listed. Raises DataError when no file with one of the suffixes is in a class folder.
    """
    listing = Listing()
    names = list(_candidates(path, suffixes, listing))
    depth = _common_depth(names)
    has_splits = any(SPLITS.get(name.parts[depth].lower()) == "train" and len(name.parts) > depth + 2 for name in names)
    for name in names:
        _place(name, depth, has_splits, listing)
    if not listing.rows:
        kinds = ", ".join(sorted(suffixes))
        raise DataError(f"{path.resolve()}: no examples found; expected one folder per class holding {kinds} files")
    return listing


def read_files(path: Path, *, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The contents of the wanted files, in the order of the source; of files with one name, the first."""
    missing = set(wanted)
    for member in members(path):
        if member.name in missing and member.problem is None:
            missing.discard(member.name)
            yield member.name, member.read()


def _candidates(path: Path, suffixes: Collection[str], listing: Listing) -> Iterator[PurePosixPath]:
    seen = set()
    for member in members(path):
        name = PurePosixPath(member.name)
        if any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in name.parts):
            continue
        if not _is_utf8(member.name):
            listing.skip(ascii(member.name), "its name is not UTF-8")
        elif member.problem:
            listing.skip(member.name, member.problem)
        elif name.suffix.lower() not in suffixes:
            listing.skip(member.name, f"{name.suffix or 'no suffix'}: not one of {', '.join(sorted(suffixes))}")
        elif member.name in seen:
            listing.skip(member.name, "a second file of this name")
        else:
            seen.add(member.name)
            yield name


def _is_utf8(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _common_depth(names: list[PurePosixPath]) -> int:
    """How many leading folders all names share, while a class folder still remains below."""
    depth = 0
    while names and all(len(name.parts) > depth + 2 and name.parts[depth] == names[0].parts[depth] for name in names):
        depth += 1
    return depth


def _place(name: PurePosixPath, depth: int, has_splits: bool, listing: Listing) -> None:
    parts = name.parts[depth:]
    split = SPLITS.get(parts[0].lower()) if has_splits else None
    if has_splits and split is None:
        listing.skip(str(name), f"beside train, but {parts[0]!r} is not one of {', '.join(SPLITS)}")
    elif len(parts) < (3 if has_splits else 2):
        listing.skip(str(name), "not in a class folder")
    else:
        listing.rows.append(Row(str(name), parts[1] if has_splits else parts[0], split))
