"""Reading of texts: files in folders or rows of tables, and the decoding of their bytes."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.core.display import display_path, printable
from flowerml.core.errors import DataError, InputError
from flowerml.data import tables
from flowerml.data.layout import SPLITS, Listing, Row, list_files, read_files, split_name, to_nfc
from flowerml.data.tables import Column, MissingColumnError, Record, TableFile
from flowerml.data.tables.files import SPREADSHEETS
from flowerml.data.text_encoding import EncodingError
from flowerml.data.text_encoding import decode as decode_bytes

if TYPE_CHECKING:
    from flowerml.tasks.text.sections import Data

SUFFIXES = frozenset({".txt"})
TABLES: tuple[str, ...] = tables.SUFFIXES
NOT_READ: Mapping[str, str] = {
    **{
        suffix: f"{suffix} files are not read: save them as plain text (.txt)"
        for suffix in (".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub", ".pages", ".htm", ".html", ".md")
    },
    **{
        suffix: f"{suffix}: a table among texts is not read: save it as CSV, and name the file itself"
        for suffix in SPREADSHEETS
    },
}
UNLABELLED = "unsup"  # the folder of aclImdb with reviews of unknown sentiment


def listing(source: Path, section: "Data", *, labelled: bool = True) -> Listing:
    """List the texts of tables, or of a folder or archive with one folder per class. Raises DataError.

    If not `labelled`, the labels come from elsewhere and the files may be in any folders. The tables of a folder or
    archive are read where there are no other texts in it: `tables.tables_in`.
    """
    listed = Listing()
    missing = [table.name for table in _tables(source, section, listed) if not _list_table(table, section, listed)]
    if listed.rows:
        return listed
    if missing:
        raise DataError(
            f"{missing[0]}: no column {section.label_column!r}, as in its other tables; name it with "
            "-S data.label_column=NAME"
        )
    listed = list_files(
        source, suffixes=SUFFIXES, labelled=labelled, limits=section.limits.of_archives(), reasons=NOT_READ
    )
    unlabelled = Counter(row.label for row in listed.rows)[UNLABELLED]
    if unlabelled:
        listed.skip(UNLABELLED, f"{unlabelled:,} texts without a label")
    # Without sizes, since texts of different bytes may be the same words.
    rows = [replace(row, size=None) for row in listed.rows if row.label != UNLABELLED]
    return Listing(rows, listed.skipped, listed.warnings)


def contents(source: Path, section: "Data", wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (id, bytes) of the wanted texts, in the order of the source."""
    missing, has_tables = set(wanted), False
    for table in _tables(source, section, Listing()):
        has_tables = True
        for record in _records(table, section):
            if (name := table.row_id(record.number)) in missing:
                missing.discard(name)
                yield name, _bytes(record)
    if not has_tables:
        yield from read_files(source, wanted=wanted, limits=section.limits.of_archives())
    elif missing:
        raise DataError(
            f"{display_path(source)}: {min(missing)} is missing; re-run the command when it no longer changes"
        )


def read(raw: bytes, section: "Data") -> str:
    """Decode a text: UTF-8, UTF-16 with a byte order mark, Windows-1252, or the guess of charset-normalizer.

    Raises InputError: `not_a_text` for binary data or an unknown encoding, `empty_text`, and `text_too_long` above
    the section's limit.
    """
    limit = section.limits.characters
    text = decode(raw)
    if not text.strip():
        raise InputError("empty_text", "an empty text")
    if len(text) > limit:
        raise InputError("text_too_long", f"{len(text):,} characters; at most {limit:,} are read")
    return text


def decode(raw: bytes) -> str:
    """Decode a text of any length. Raises InputError `not_a_text`."""
    try:
        return decode_bytes(raw)
    except EncodingError as error:
        raise InputError("not_a_text", str(error)) from None


def _tables(source: Path, section: "Data", listed: Listing) -> Iterator[TableFile]:
    """Yield the tables of a source; none where it holds texts in files."""
    limits = section.limits.of_archives()
    if tables.is_table(source):
        yield tables.table_file(source, limits)
    elif names := tables.tables_in(source, limits, SUFFIXES, listed):
        yield from tables.read_tables(source, limits, names)


def _records(file: TableFile, section: "Data") -> Iterator[Record]:
    """Yield the rows of a table; none where it was skipped when it was listed."""
    try:
        table = tables.open_table(file, _columns(section))
    except MissingColumnError:
        return
    yield from table.records()


def _columns(section: "Data") -> list[Column]:
    """Return the columns to read; the label is the other of two."""
    return [
        Column("text", section.text_column, "-S data.text_column"),
        Column("label", section.label_column, "-S data.label_column", lonely=True),
        Column("split", section.split_column, "-S data.split_column"),
        Column("group", section.group_column, "-S data.group_column"),
    ]


def _list_table(file: TableFile, section: "Data", listed: Listing) -> bool:
    """Add the rows of a table to a listing; raises DataError where none can be used.

    Return whether it has labels; a table of a folder or archive may have none, such as the test set of a competition.
    """
    try:
        table = tables.open_table(file, _columns(section))
    except MissingColumnError as error:
        if not file.prefix or error.role != "label":
            raise
        listed.skip(file.prefix.strip(), f"no column {section.label_column!r}")
        listed.warnings.append(f"{file.name} is left out, as it has no column {section.label_column!r}")
        return False
    listed.warnings.extend(table.warnings)
    before, first = len(listed.rows), len(listed.skipped)
    for record in table.records():
        _list_record(file, record, listed)
    if len(listed.rows) == before:
        reason = Counter(skip["reason"] for skip in listed.skipped[first:]).most_common(1)
        raise DataError(
            f"{file.name}: no row can be used ({reason[0][0] if reason else 'it has none'}); expected texts in column "
            f"{section.text_column!r} and their classes in {section.label_column!r}: choose another column with "
            "-S data.label_column=NAME"
        )
    listed.warnings.extend(_header_warning(file, section, listed.rows[before:]))
    return True


def _header_warning(file: TableFile, section: "Data", rows: list[Row]) -> list[str]:
    """Return a warning where the first row of a table without header looks like one: no other has its class."""
    sizes = Counter(row.label for row in rows)
    first = rows[0].label
    if not isinstance(section.label_column, int) or sizes[first] > 1 or len(sizes) == len(rows):
        return []
    return [
        f"{file.name}: only its first row is of class {printable(first)!r}; if that row is a header, name the columns "
        f"(-S data.label_column={printable(first)})"
    ]


def _list_record(file: TableFile, record: Record, listed: Listing) -> None:
    name = file.row_id(record.number)
    label, split, group = (_text(record, role) for role in ("label", "split", "group"))
    split = split.strip()
    if record.problem:
        listed.skip(name, record.problem)
    elif not label.strip():
        listed.skip(name, "no label")
    elif split and split_name(split) is None:
        listed.skip(name, f"split {printable(split)!r} is not one of {', '.join(SPLITS)}")
    else:
        listed.rows.append(Row(name, to_nfc(label), split_name(split) if split else file.split, group or None))


def _text(record: Record, role: str) -> str:
    """Return a value of a row as valid Unicode; empty where it is missing."""
    value = record.values.get(role)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return (value or "").encode(errors="replace").decode()


def _bytes(record: Record) -> bytes:
    value = record.values.get("text")
    return value if isinstance(value, bytes) else (value or "").encode(errors="replace")


def recognizes(content: bytes) -> bool:
    """Return whether bytes are UTF-8, as a text's mostly are."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
