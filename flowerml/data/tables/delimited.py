"""CSV and its relatives: encoding, separator and quotation marks are detected first, then rows are streamed.

Not pandas: it reads a whole table into memory, reads all lines up to the next quotation mark as one text, and makes the
first column an index where rows have one field more than the header, all without a warning.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from flowerml.core.display import one_line
from flowerml.core.errors import DataError
from flowerml.data.layout import ON_LINE
from flowerml.data.tables.columns import (
    Chosen,
    Column,
    MissingColumnError,
    Record,
    Table,
    choose,
    is_numbered,
    numbered,
)
from flowerml.data.tables.files import TableFile
from flowerml.data.text_encoding import EncodingError, detect

if TYPE_CHECKING:
    from _csv import Reader

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
DEFAULT = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
SEEN = 50  # records from which the separator is detected
SAMPLE = 2**16  # characters of them
UTF8 = ("utf-8", "utf-8-sig")
CONTAINERS = {b"PK\x03\x04": "a zip or an Excel workbook", b"\xd0\xcf\x11\xe0": "an Excel workbook", b"PAR1": "Parquet"}
PAGES = ("<!doctype html", "<html")
QUOTE = '"'
Line = tuple[int, list[str]]
"""The number of a record's first line, and its fields."""


@dataclass(frozen=True)
class Dialect:
    """How a table is written. Without `quoted`, each line is a row, and a lonely quotation mark is a character."""

    encoding: str
    separator: str
    header: bool
    chosen: Chosen
    width: int
    spaced: bool = False
    quoted: bool = True
    warnings: tuple[str, ...] = ()


class Unbalanced(Exception):
    """A quotation mark that swallows lines: the number of the line, and what is wrong with it."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(line, problem)
        self.line, self.problem = line, problem


@dataclass
class _Lines:
    """The lines of a text file, of which those since the last record are kept."""

    lines: Iterator[str]
    kept: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            self.kept.append(line)
            yield line


def open_delimited(table: TableFile, columns: Sequence[Column]) -> Table:
    """Return the rows of a table with a separator between its fields; raises DataError."""
    csv.field_size_limit(table.limits.member_bytes)  # of the process; the module's own is 131,072 characters
    with _errors(table):
        dialect = _dialect(table, columns)
        try:
            ragged = _survey(table, dialect)
        except Unbalanced as error:
            dialect, ragged = _unquoted(table, dialect, error)
    warnings = [*dialect.chosen.warnings, *dialect.warnings, *ragged]
    return Table(lambda: _records(table, dialect), warnings)


@contextmanager
def _errors(table: TableFile) -> Iterator[None]:
    try:
        yield
    except Unbalanced as error:
        raise DataError(_refusal(table, error)) from None
    except EncodingError as error:
        raise DataError(f"{table.name}: {error}") from None
    except UnicodeError as error:
        raise DataError(f"{table.name}: in an unknown encoding ({one_line(error, 100)}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{table.name}: cannot be read ({one_line(error, 100)})") from None


def _refusal(table: TableFile, error: Unbalanced) -> str:
    return (
        f"{table.name}: line {error.line:,} has a quotation mark that {error.problem}; write each quotation mark in a "
        'quoted text twice (""), or save the table as .jsonl'
    )


def _dialect(table: TableFile, columns: Sequence[Column]) -> Dialect:
    with table.open() as file:
        start = file.read(64)
    kind = next((kind for magic, kind in CONTAINERS.items() if start.startswith(magic)), None)
    if kind:
        raise DataError(f"{table.name}: named {table.suffix}, but it is {kind}; save it as CSV (UTF-8), or rename it")
    with table.open() as file:
        encoding = detect(file)
    with _text(table, encoding) as text:
        sample = text.read(SAMPLE)
    if sample.lstrip().lower().startswith(PAGES):
        raise DataError(f"{table.name}: a web page, not a table; open its link in a browser to see what it asks for")
    if not sample.strip():
        raise DataError(f"{table.name}: is empty; get a fresh copy")
    separator = _separator(table, columns, sample)
    spaced = _is_spaced(sample, separator)
    first = _seen(sample, separator, spaced=spaced)[0]
    header = not is_numbered(columns, first)
    chosen = choose(table.name, columns, first) if header else numbered(table.name, columns, len(first))
    return Dialect(
        encoding, separator, header, chosen, len(first), spaced, warnings=tuple(_said(table, encoding, separator))
    )


def _said(table: TableFile, encoding: str, separator: str) -> Iterator[str]:
    if encoding not in (*UTF8, "utf-16"):
        yield f"{table.name} is not UTF-8; it is read as {encoding}: look at a few accents, or save it as UTF-8"
    if separator != DEFAULT[table.suffix]:
        yield f"{table.name} is separated by {SEPARATORS[separator]}"


def _separator(table: TableFile, columns: Sequence[Column], sample: str) -> str:
    """Return the separator with which the header has the wanted columns.

    Where there is none, return that with which the records have equally many fields and few labels.
    """
    default = DEFAULT[table.suffix]
    scores = {}
    for separator in sorted(SEPARATORS, key=lambda separator: separator != default):
        records = _seen(sample, separator)
        if len(sample) == SAMPLE and len(records) > 1:
            records.pop()  # cut short
        first = records[0]
        if not is_numbered(columns, first) and len(first) > 1 and _has_columns(columns, first):
            return separator
        agreeing = sum(len(record) == len(first) for record in records) / len(records)
        repeated = len(records) - _distinct_labels(columns, records)
        scores[separator] = (len(first) > 1, agreeing, repeated, separator == default, len(first))
    return max(scores, key=lambda separator: scores[separator])


def _distinct_labels(columns: Sequence[Column], records: list[list[str]]) -> int:
    """Return the number of labels in records without a header; of all records where the label has no number."""
    place = next((column.name for column in columns if column.role == "label"), None)
    if not isinstance(place, int):
        return len(records)
    return len({record[place] if place < len(record) else "" for record in records})


def _has_columns(columns: Sequence[Column], header: Sequence[str]) -> bool:
    try:
        choose("", columns, header)
    except MissingColumnError:
        return False
    except DataError:  # a name occurs twice, which is reported later
        return True
    return True


def _is_spaced(sample: str, separator: str) -> bool:
    """Return whether a space follows each separator of the first line, as in `text, label`."""
    fields = sample.lstrip("\r\n").splitlines()[0].split(separator)
    return len(fields) > 1 and separator != " " and all(name.startswith(" ") for name in fields[1:])


def _reader(lines: Iterable[str], separator: str, *, spaced: bool, strict: bool, quoted: bool = True) -> "Reader":
    return csv.reader(
        lines,
        delimiter=separator,
        strict=strict,
        skipinitialspace=spaced,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )


def _seen(sample: str, separator: str, *, spaced: bool = False) -> list[list[str]]:
    """Return the first records of a sample, without empty ones; quotation marks are not checked."""
    records = _reader(io.StringIO(sample, newline=""), separator, spaced=spaced, strict=False)
    return list(islice(filter(None, records), SEEN))


@contextmanager
def _text(table: TableFile, encoding: str) -> Iterator[io.TextIOWrapper]:
    with table.open() as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        yield text


def _survey(table: TableFile, dialect: Dialect) -> list[str]:
    """Read all rows once: return warnings, raise Unbalanced where a quotation mark swallows lines."""
    labels: set[str] = set()
    suspects: list[tuple[int, list[str]]] = []
    ragged, first_ragged, rows = 0, 0, 0
    place = dialect.chosen.positions.get("label")
    with _text(table, dialect.encoding) as text:
        lines = _Lines(text)
        for line, record in _numbered(lines, dialect):
            kept, lines.kept = lines.kept, []
            rows += 1
            if not _fits(record, dialect.width):
                ragged, first_ragged = ragged + 1, first_ragged or line
            elif place is not None:
                labels.add(record[place])
                if len(kept) > 1 and len(ends := _label_candidates(kept, dialect, place)) > 1:
                    suspects.append((line, ends))
    for line, ends in suspects:
        if sum(end in labels for end in ends) > 1:
            raise Unbalanced(line, "swallows the rows up to the next one")
    if ragged and ragged == rows:
        raise DataError(f"{table.name}: no row has {dialect.width} fields, as the first line has; is it the header?")
    return [_ragged_warning(table, dialect, ragged, first_ragged)] if ragged else []


def _ragged_warning(table: TableFile, dialect: Dialect, count: int, line: int) -> str:
    rows = "1 row does" if count == 1 else f"{count:,} rows do"
    return (
        f"{table.name}: {rows} not have the {dialect.width} fields of the first line and will be skipped, the first on "
        f"line {line:,}; put quotation marks around a text that holds {SEPARATORS[dialect.separator]}"
    )


def _label_candidates(lines: list[str], dialect: Dialect, place: int) -> list[str]:
    """Return what would be the labels of lines, were each a row."""
    candidates = []
    for line in lines:
        fields = line.rstrip("\r\n").split(dialect.separator)
        if len(fields) >= dialect.width:
            # A text with separators in it moves the fields behind it.
            label = fields[place] if place < dialect.width / 2 else fields[place - dialect.width]
            candidates.append(label.strip(QUOTE))
    return candidates


def _numbered(lines: _Lines, dialect: Dialect) -> Iterator[Line]:
    """Yield each row with the number of its first line; raises Unbalanced."""
    reader = _reader(lines, dialect.separator, spaced=dialect.spaced, strict=True, quoted=dialect.quoted)
    is_header = dialect.header
    while True:
        line = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            if "field larger" in str(error) or not dialect.quoted:
                raise
            problem = "is never closed" if "unexpected end" in str(error) else "is closed in the middle of a text"
            raise Unbalanced(line, problem) from None
        if record is None:
            return
        if not record:
            lines.kept = []
        elif is_header:
            is_header, lines.kept = False, []
        else:
            yield line, record if dialect.quoted else [_unquote(cell) for cell in record]


def _unquote(cell: str) -> str:
    """Return a cell of an unquoted table without the quotation marks around it, if those inside are doubled."""
    inner = cell[1:-1]
    if len(cell) > 1 and cell[0] == cell[-1] == QUOTE and QUOTE not in inner.replace(QUOTE * 2, ""):
        return inner.replace(QUOTE * 2, QUOTE)
    return cell


def _fits(record: list[str], width: int) -> bool:
    """Return whether a record has the fields of the header; empty ones may follow."""
    return len(record) == width or (len(record) > width and not any(record[width:]))


def _unquoted(table: TableFile, dialect: Dialect, error: Unbalanced) -> tuple[Dialect, list[str]]:
    """Return the dialect in which each line is a row, if all lines then have the same fields; else raise the error."""
    unquoted = replace(dialect, quoted=False)
    with _text(table, dialect.encoding) as text:
        lines = _Lines(text)
        for _, record in _numbered(lines, unquoted):
            lines.kept = []
            if not _fits(record, dialect.width):
                raise error
    warning = (
        f"{table.name}: line {error.line:,} has a quotation mark that {error.problem}; each line is read as a row, and "
        "such marks as characters"
    )
    return replace(unquoted, warnings=(*dialect.warnings, warning)), []


def _records(table: TableFile, dialect: Dialect) -> Iterator[Record]:
    positions = dialect.chosen.positions
    with _errors(table), _text(table, dialect.encoding) as text:
        lines = _Lines(text)
        for number, (line, record) in enumerate(_numbered(lines, dialect), 1):
            lines.kept = []
            if _fits(record, dialect.width):
                yield Record(number, {role: record[place] for role, place in positions.items()})
            else:
                problem = f"wrong number of fields, {len(record):,} instead of {dialect.width:,}{ON_LINE}{line:,})"
                yield Record(number, dict.fromkeys(positions), problem)
