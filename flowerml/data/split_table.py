"""A table of the user's beside the data: which file is in which split or group, or of which class it is."""

import csv
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from flowerml.core.display import display_path, printable
from flowerml.core.errors import DataError
from flowerml.data.layout import SPLITS, Listing, Row, to_nfc

FILE = "file"
COLUMNS = (FILE, "split", "group", "label")
MAX_ENDING = 16  # folders that a file may be named with, short of its whole path


@dataclass(frozen=True)
class SplitTable:
    """The rows of the table by their file, each with those of split, group and label that the table has."""

    path: Path
    columns: frozenset[str]
    rows: dict[str, dict[str, str]]

    @classmethod
    def read(cls, path: Path) -> "SplitTable":
        """Read a CSV in UTF-8 with a header; raises DataError where it cannot be used."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                columns = list(reader.fieldnames or [])
                _check_columns(path, columns)
                return cls(path, frozenset(columns), _by_file(path, list(reader)))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{display_path(path)}: cannot be read as a CSV in UTF-8 ({error})") from None

    @property
    def has_labels(self) -> bool:
        """Whether the classes stand in the table, and not in the names of folders."""
        return "label" in self.columns

    def apply(self, listing: Listing) -> Listing:
        """The listing with what the table says of its rows; a row the table does not name is left out and listed.

        A file is named by its path in the source, or by as much of the end of it as no other file shares.
        """
        named = self._found(listing)
        told = Listing([], list(listing.skipped), list(listing.warnings))
        for row in listing.rows:
            values = named.get(row.id)
            if values is None:
                told.skip(row.id, f"not in the table {self.path.resolve().name}")
            elif self.has_labels and not values["label"]:
                told.skip(row.id, "no label in the table")
            else:
                told.rows.append(self._told(row, values))
        if not told.rows:
            missing = f"none of its {len(self.rows):,} files is in the source"
            raise DataError(f"{display_path(self.path)}: {missing}; {self._hint(listing)}")
        return told

    def _found(self, listing: Listing) -> dict[str, dict[str, str]]:
        ids = _by_ending(listing)
        found: dict[str, dict[str, str]] = {}
        missing = []
        for file, values in self.rows.items():
            matches = ids.get(to_nfc(file), [])
            if len(matches) > 1 and file not in matches:
                raise DataError(
                    f"{display_path(self.path)}: {file!r} names {len(matches)} files ({', '.join(matches[:3])}); "
                    "give longer paths that tell them apart"
                )
            if matches:
                found[file if file in matches else matches[0]] = values
            else:
                missing.append(file)
        if missing:
            listing.warnings.append(
                f"{len(missing):,} of the {len(self.rows):,} files in {self.path.resolve().name} are not in the "
                f"source, such as {printable(missing[0])}"
            )
        return found

    def _told(self, row: Row, values: dict[str, str]) -> Row:
        given = values.get("split", "")
        if given and given.lower() not in SPLITS:
            raise DataError(
                f"{display_path(self.path)}: split {given!r} of {values[FILE]!r} is not one of {', '.join(SPLITS)}"
            )
        split = SPLITS[given.lower()] if given else None
        return replace(
            row,
            label=to_nfc(values.get("label") or row.label),
            split=split if "split" in self.columns else row.split,
            group=values.get("group") or row.group,
        )

    def _hint(self, listing: Listing) -> str:
        seen = listing.rows[0].id if listing.rows else "nothing"
        return f"it names {next(iter(self.rows), 'nothing')!r}, the source holds {seen!r}"


def split_table(path: Path) -> SplitTable | None:
    """Return the table that the download stage put beside the source; None where the file is empty."""
    return SplitTable.read(path) if path.stat().st_size else None


def _check_columns(path: Path, columns: list[str]) -> None:
    if FILE not in columns or not {*COLUMNS[1:]} & set(columns):
        raise DataError(
            f"{display_path(path)}: expected a header with the column `file` and at least one of `split`, `group` and "
            f"`label`, found {', '.join(columns) or 'nothing'}"
        )


def _by_file(path: Path, rows: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    by_file: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise DataError(f"{display_path(path)}: line {number} has more or fewer fields than the header")
        file = PurePosixPath(row[FILE].strip().replace("\\", "/")).as_posix()
        if file in by_file and by_file[file] != {**row, FILE: file}:
            raise DataError(f"{display_path(path)}: {file!r} stands there twice (line {number}), with other values")
        by_file[file] = {key: value.strip() for key, value in row.items()} | {FILE: file}
    return by_file


def _by_ending(listing: Listing) -> dict[str, list[str]]:
    """Every ending of every path in the listing -> the paths that end so."""
    ids: dict[str, list[str]] = defaultdict(list)
    for row in listing.rows:
        parts = PurePosixPath(row.id).parts
        for start in {0, *range(max(0, len(parts) - MAX_ENDING), len(parts))}:
            ids[to_nfc("/".join(parts[start:]))].append(row.id)
    return ids
