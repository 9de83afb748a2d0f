"""Tables of examples: CSV, JSON and Parquet, read row by row, alone or as the files of a folder or archive.

No row vanishes: each record is a row with its values, or with the reason why it cannot be used; where that cannot be
known, as behind an unbalanced quotation mark, the table is refused. Memory is bounded by one row (Parquet: a row group;
a table in an archive: its size).
"""

from flowerml.data.tables.columns import Column, MissingColumnError, Record, Table
from flowerml.data.tables.files import SUFFIXES, TableFile, is_table, read_tables, suffix_of, table_file, tables_in
from flowerml.data.tables.formats import open_table

__all__ = [
    "SUFFIXES",
    "Column",
    "MissingColumnError",
    "Record",
    "Table",
    "TableFile",
    "is_table",
    "open_table",
    "read_tables",
    "suffix_of",
    "table_file",
    "tables_in",
]
