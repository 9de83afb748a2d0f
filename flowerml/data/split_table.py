"""The user's table of files: the split, group or class of each. `flowerml review` writes one."""

import csv
import io
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from flowerml.core.display import display_path, printable
from flowerml.core.errors import DataError
from flowerml.core.regular import open_regular
from flowerml.data.layout import SPLITS, Listing, Row, split_name, to_nfc

FILE = "file"
COLUMNS = (FILE, "split", "group", "label")
GIVEN = "given_label"  # of the source, when the table was written
DROP = "drop"  # in the column split: the file is left out
# What `download` writes where there is no table: DVC warns of an empty file three times in each run. A user's table of
# this one column would be refused.
NO_TABLE = f"{FILE}\n"
MAX_FOLDERS = 16  # that may precede a file's name in the table, unless it is the whole path


@dataclass(frozen=True)
class SplitTable:
    """The rows of the table by file; each has those of split, group and label that are columns of the table."""

    path: Path
    columns: frozenset[str]
    rows: dict[str, dict[str, str]]

    @classmethod
    def read(cls, path: Path) -> "SplitTable":
        """Read a CSV in UTF-8 with a header; raises DataError where it is invalid."""
        try:
            with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                columns = [name.strip() for name in reader.fieldnames or []]
                reader.fieldnames = columns
                _check_columns(path, columns)
                return cls(path, frozenset(columns), _by_file(path, list(reader)))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{display_path(path)}: cannot be read as a CSV in UTF-8 ({error})") from None

    @property
    def has_labels(self) -> bool:
        """Return whether the classes are in the table, and not in the names of folders."""
        return "label" in self.columns

    def apply(self, listing: Listing) -> Listing:
        """Return the listing with the table's values; rows missing from the table are skipped and reported.

        The table names a file by its path in the source, or by a unique end of that path; a row of a table of texts by
        its id, such as `row 12`. Rows of the split `drop` are skipped and reported, too. Raises DataError.
        """
        matched = self._match(listing)
        result = Listing([], list(listing.skipped), list(listing.warnings))
        for row in listing.rows:
            values = matched.get(row.id)
            if values is None:
                result.skip(row.id, f"not in the table {self.path.resolve().name}")
            elif values.get("split", "").lower() == DROP:
                result.skip(row.id, f"dropped in the table {self.path.resolve().name}")
            elif self.has_labels and not values["label"]:
                result.skip(row.id, "no label in the table")
            else:
                result.rows.append(self._update(row, values))
        if not result.rows:
            missing = f"none of its {len(self.rows):,} files is in the source"
            raise DataError(f"{display_path(self.path)}: {missing}; {self._hint(listing)}")
        return result

    def _match(self, listing: Listing) -> dict[str, dict[str, str]]:
        ids = _by_ending(listing)
        matched: dict[str, dict[str, str]] = {}
        missing = []
        for file, values in self.rows.items():
            matches = ids.get(to_nfc(file), [])
            if len(matches) > 1 and file not in matches:
                raise DataError(
                    f"{display_path(self.path)}: {file!r} names {len(matches)} files ({', '.join(matches[:3])}); "
                    "give longer paths that tell them apart"
                )
            if matches:
                matched[file if file in matches else matches[0]] = values
            else:
                missing.append(file)
        if missing:
            listing.warnings.append(
                f"{len(missing):,} of the {len(self.rows):,} files in {self.path.resolve().name} are not in the "
                f"source, such as {printable(missing[0])}"
            )
        return matched

    def _update(self, row: Row, values: dict[str, str]) -> Row:
        self._check_given(row, values.get(GIVEN, ""))
        given = values.get("split", "")
        split = split_name(given)
        if given and split is None:
            raise DataError(
                f"{display_path(self.path)}: split {given!r} of {values[FILE]!r} is not one of "
                f"{', '.join((*SPLITS, DROP))}"
            )
        return replace(
            row,
            label=to_nfc(values.get("label") or row.label),
            split=split if "split" in self.columns else row.split,
            group=values.get("group") or row.group,
        )

    def _check_given(self, row: Row, given: str) -> None:
        """Raise DataError where the source has another label than when the table was written.

        Rows of a table of texts are known by their numbers: one inserted row would give all after it a wrong label.
        """
        if given and row.label and to_nfc(given) != row.label.strip():
            raise DataError(
                f"{display_path(self.path)}: {printable(row.id)} had the label {given!r} when this table was written, "
                f"and has {printable(row.label)!r} in the source now; its rows have changed since, so write the table "
                f"again (or remove its column {GIVEN} if the labels were corrected there)"
            )

    def _hint(self, listing: Listing) -> str:
        example = listing.rows[0].id if listing.rows else "nothing"
        return f"it names {next(iter(self.rows), 'nothing')!r}, the source holds {example!r}"


def split_table(path: Path) -> SplitTable | None:
    """Return the table that the download stage put beside the source; None where it wrote that there is none.

    Earlier versions of flowerml wrote an empty file.
    """
    if path.stat().st_size <= len(NO_TABLE) and path.read_text(encoding="utf-8", errors="replace") in ("", NO_TABLE):
        return None
    return SplitTable.read(path)


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
        values = {key: value.strip() for key, value in row.items()}
        values[FILE] = file = file_name(values[FILE])
        if by_file.setdefault(file, values) != values:
            raise DataError(f"{display_path(path)}: {file!r} is listed twice (line {number}), with different values")
    return by_file


def file_name(text: str) -> str:
    """Return the name of a file as a table has it: without spaces at its ends, with slashes between folders."""
    return PurePosixPath(text.strip().replace("\\", "/")).as_posix()


def _by_ending(listing: Listing) -> dict[str, list[str]]:
    """Return the ids of the listing by every end of their paths."""
    ids: dict[str, list[str]] = defaultdict(list)
    for row in listing.rows:
        parts = PurePosixPath(row.id).parts
        for start in {0, *range(max(0, len(parts) - MAX_FOLDERS), len(parts))}:
            ids[to_nfc("/".join(parts[start:])).strip()].append(row.id)
    return ids
