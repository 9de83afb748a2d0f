"""The reader of each format."""

from collections.abc import Callable, Sequence

from flowerml.core.errors import DataError
from flowerml.data.tables.columns import Column, Table
from flowerml.data.tables.delimited import open_delimited
from flowerml.data.tables.files import DELIMITED, JSON_LINES, SPREADSHEETS, TableFile
from flowerml.data.tables.json_rows import open_json
from flowerml.data.tables.parquet import open_parquet

_READERS: dict[str, Callable[[TableFile, Sequence[Column]], Table]] = {
    **dict.fromkeys(DELIMITED, open_delimited),
    **dict.fromkeys((*JSON_LINES, ".json"), open_json),
    ".parquet": open_parquet,
}


def open_table(table: TableFile, columns: Sequence[Column]) -> Table:
    """Return the rows of a table with the wanted columns, in the reader of its name's format; raises DataError."""
    if table.suffix in SPREADSHEETS:
        raise DataError(f"{table.name}: spreadsheets are not read; save the sheet as CSV (in Excel: CSV UTF-8)")
    return _READERS[table.suffix](table, columns)
