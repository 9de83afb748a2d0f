"""JSON: an object on each line, or an array of objects, with numbers as they are spelled."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flowerml.core.display import one_line
from flowerml.core.errors import DataError
from flowerml.data.tables.columns import Chosen, Column, Record, Table, Value, choose
from flowerml.data.tables.files import JSON_LINES, TableFile
from flowerml.data.text_encoding import EncodingError, detect

PIECE = 2**16  # characters read at a time
SPACES = " \t\r\n"
# Numbers as they are spelled: as floats, 0 would become 0.0 beside a missing one, and 2^53 + 1 would become 2^53.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=lambda _: None, strict=False)
Rows = Callable[[], Iterator[dict[str, Any]]]


def open_json(table: TableFile, columns: Sequence[Column]) -> Table:
    """Return the rows of a JSON file; raises DataError."""
    try:
        with table.open() as file:
            encoding = detect(file)
    except EncodingError as error:
        raise DataError(f"{table.name}: {error}") from None
    is_array = table.suffix not in JSON_LINES and _is_array(table, encoding)

    def rows() -> Iterator[dict[str, Any]]:
        with table.open() as file, io.TextIOWrapper(file, encoding=encoding) as text:
            try:
                yield from (_array(table, text) if is_array else _lines(table, text))
            except UnicodeError as error:
                raise DataError(
                    f"{table.name}: in an unknown encoding ({one_line(error, 100)}); save it as UTF-8"
                ) from None

    chosen, header = _choose(table, columns, rows)
    warnings = list(chosen.warnings)
    if not encoding.startswith("utf"):
        warnings.append(f"{table.name} is not UTF-8; it is read as {encoding}: look at a few accents")
    names = {role: header[place] for role, place in chosen.positions.items()}
    return Table(lambda: _records(table, rows, names), warnings)


def _choose(table: TableFile, columns: Sequence[Column], rows: Rows) -> tuple[Chosen, list[str]]:
    """Return the chosen columns and the names of all, in the order of their first rows."""
    header: dict[str, None] = {}
    wanted = {column.name for column in columns if column.name is not None}
    for row in rows():
        header.update(dict.fromkeys(row))
        if wanted <= header.keys():
            break
    if not header:
        raise DataError(f"{table.name}: holds no rows")
    return choose(table.name, columns, list(header)), list(header)


def _records(table: TableFile, rows: Rows, names: dict[str, str]) -> Iterator[Record]:
    for number, row in enumerate(rows(), 1):
        values: dict[str, Value] = {}
        problem = None
        for role, name in names.items():
            value = row.get(name)
            if isinstance(value, list | dict):
                problem = f"its {role} is {'a list' if isinstance(value, list) else 'an object'}"
                if role == "label":  # several classes a row: to train on the other rows would teach something else
                    raise DataError(f"{table.name}: row {number:,}: {problem}; expected one class a row, not several")
            else:
                values[role] = None if value is None else str(value)
        yield Record(number, values, problem)


def _is_array(table: TableFile, encoding: str) -> bool:
    """Return whether a .json holds an array, and not an object on each line."""
    with table.open() as file, io.TextIOWrapper(file, encoding=encoding, errors="replace") as text:
        return text.read(PIECE).lstrip(SPACES).startswith("[")


def _lines(table: TableFile, text: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text, 1):
        if not (line := line.strip(SPACES)):
            continue
        try:
            row = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{table.name}: line {number:,} is not JSON ({error.msg}); {_expected()}") from None
        except RecursionError:
            raise DataError(f"{table.name}: line {number:,} is nested too deeply; {_expected()}") from None
        yield _checked(table, row, f"line {number:,}")


def _array(table: TableFile, text: io.TextIOWrapper) -> Iterator[dict[str, Any]]:
    """Yield the objects of an array, a piece of the file at a time."""
    buffer = text.read(PIECE).lstrip(SPACES)[1:]
    number, size = 1, PIECE
    while True:
        buffer = buffer.lstrip(SPACES + ("," if number > 1 else ""))
        if buffer.startswith("]"):
            return
        try:
            row, end = _DECODER.raw_decode(buffer)
        except RecursionError:
            raise DataError(f"{table.name}: element {number:,} is nested too deeply; {_expected()}") from None
        except json.JSONDecodeError as error:
            if not (piece := text.read(size)):
                raise DataError(f"{table.name}: element {number:,} is not JSON ({error.msg}); {_expected()}") from None
            buffer += piece
            size *= 2  # so that an object of any size is tried a few times only
            continue
        size = PIECE
        yield _checked(table, row, f"element {number:,}")
        buffer = buffer[end:]
        number += 1


def _checked(table: TableFile, row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{table.name}: {where} is no object; {_expected()}")
    return {name.strip(): value for name, value in row.items()}


def _expected() -> str:
    return 'expected an object a row, such as {"text": "…", "label": "…"}, on lines or in an array'
