"""The table files in a source: one file, or those of a folder or archive, and the split that a name says."""

import io
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from flowerml.core.display import display_path, preview_list, printable
from flowerml.core.errors import DataError
from flowerml.data.archives import ArchiveLimits, members
from flowerml.data.archives.decompress import Unpacked, is_packed
from flowerml.data.archives.members import Tally, reading_errors
from flowerml.data.folders import split_name, split_names
from flowerml.data.layout import Listing

DELIMITED = (".csv", ".tsv", ".tab", ".psv")
JSON_LINES = (".jsonl", ".ndjson")
PLAIN = (*DELIMITED, *JSON_LINES, ".json")
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods")
PACKED = (".gz", ".bz2", ".xz")
SUFFIXES = (*PLAIN, ".parquet", *SPREADSHEETS, *(plain + packed for plain in PLAIN for packed in PACKED))
START = 8  # bytes that identify a compressed file
HIDDEN = ("__MACOSX", ".")


@dataclass(frozen=True)
class TableFile:
    """A table to be read, several times if needed. `name` is for messages, `split` what the file's name says."""

    name: str
    suffix: str
    opener: Callable[[], BinaryIO]
    limits: ArchiveLimits
    split: str | None = None
    prefix: str = ""
    """The beginning of its rows' ids."""

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the decompressed bytes; raises DataError where they are damaged or a decompression bomb."""
        with reading_errors(Path(self.name)), self.opener() as file:
            start = file.read(START)
            file.seek(0)
            if is_packed(start):
                yield io.BufferedReader(_Counted(file, Tally(Path(self.name), self.limits, _size(file))))
            else:
                yield file

    def row_id(self, number: int) -> str:
        """Return the id of a row, counted from 1."""
        return f"{self.prefix}row {number}"


class _Counted(Unpacked):
    """Decompressed bytes that end in a DataError above the limits."""

    def __init__(self, file: BinaryIO, tally: Tally) -> None:
        super().__init__(file)
        self._tally = tally

    def readinto(self, target: object) -> int:
        count = super().readinto(target)
        self._tally.count(size=count)
        return count


def suffix_of(name: str) -> str:
    """Return the ending of a table's name, without that of its compression; empty where it is no table's.

    >>> suffix_of("reviews.CSV.gz"), suffix_of("reviews.zip")
    ('.csv', '')
    """
    name = name.lower()
    ending = next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), "")
    return next((ending.removesuffix(packed) for packed in PACKED if ending.endswith(packed)), ending)


def is_table(path: Path) -> bool:
    """Return whether a path leads to a file with a table's name."""
    return suffix_of(path.resolve().name) != "" and not path.is_dir()


def table_file(path: Path, limits: ArchiveLimits) -> TableFile:
    """Return the table at a path; raises DataError where it is no file."""
    real = path.resolve()
    if real.exists() and not real.is_file():  # opening a pipe would wait for its other end
        raise DataError(f"{display_path(path)}: expected a table, found a pipe, socket or device")
    return TableFile(printable(str(real)), suffix_of(real.name), lambda: real.open("rb"), limits)


def tables_in(
    source: Path, limits: ArchiveLimits, suffixes: Collection[str], listing: Listing
) -> dict[str, str | None]:
    """Return the names of the tables in a folder or archive and their splits; empty where it holds other examples.

    Tables called like splits (train.csv, imdb_test.jsonl, dev/part-0.csv) are read as these, and a single table alone.
    All other files are added to the listing's skipped. Raises DataError where several tables are not called like
    splits.
    """
    names, others = [], []
    for member in members(source, limits):
        if any(part.startswith(HIDDEN) for part in member.name.split("/")):
            continue
        if PurePosixPath(member.name).suffix.lower() in suffixes:
            return {}
        if member.problem is None and suffix_of(member.name):
            names.append(member.name)
        else:
            others.append((member.name, member.problem or "no table, beside tables"))
    if len(names) == 1:
        chosen: dict[str, str | None] = {names[0]: None}
    else:
        splits = splits_of(names)
        chosen = {name: splits[name] for name in names if name in splits}
        others += [
            (name, "its name says no split, beside tables called like splits") for name in names if name not in splits
        ]
    if names and not chosen:
        raise DataError(
            f"{display_path(source)}: holds {len(names):,} tables ({printable(preview_list(names))}), of which none is "
            "called like a split; give one of them, or name them train.csv and test.csv"
        )
    for name, reason in others if names else ():
        listing.skip(name, reason)
    return chosen


def read_tables(source: Path, limits: ArchiveLimits, splits: Mapping[str, str | None]) -> Iterator[TableFile]:
    """Yield these tables of a folder or archive; each can be read until the next is requested."""
    wanted = set(splits)
    for member in members(source, limits):
        if member.name in wanted and member.problem is None:
            wanted.discard(member.name)
            shown = printable(f"{source.resolve()}/{member.name}")
            opener = _opener(source / member.name) if source.is_dir() else _held(member.read())
            prefix = f"{printable(member.name)} "
            yield TableFile(shown, suffix_of(member.name), opener, limits, splits[member.name], prefix)
    if wanted:
        raise DataError(
            f"{display_path(source)}: {printable(min(wanted))} is missing; re-run the command when it no longer changes"
        )


def splits_of(names: Collection[str]) -> dict[str, str]:
    """Return the splits that the files' names say, or else the folders that they are in.

    >>> splits_of(["imdb_train.csv", "imdb_test.csv.gz", "dev/part-0.csv", "more.csv"])
    {'imdb_train.csv': 'train', 'imdb_test.csv.gz': 'test', 'dev/part-0.csv': 'valid'}
    """
    stems = {name: _stem(name) for name in names}
    by_stem = split_names(set(stems.values()))
    splits = {}
    for name, stem in stems.items():
        folders = reversed(PurePosixPath(name).parts[:-1])
        split = by_stem.get(stem) or next((split for folder in folders if (split := split_name(folder))), None)
        if split:
            splits[name] = split
    return splits


def _stem(name: str) -> str:
    last = PurePosixPath(name).name
    return last[: last.lower().rindex(suffix_of(last))]


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


def _held(content: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(content)


def _size(file: BinaryIO) -> int:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size
