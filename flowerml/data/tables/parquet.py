"""Parquet, one row group at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flowerml.core.display import one_line
from flowerml.core.errors import DataError
from flowerml.data.tables.columns import Column, Record, Table, Value, choose
from flowerml.data.tables.files import TableFile

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1024  # rows


def open_parquet(table: TableFile, columns: Sequence[Column]) -> Table:
    """Return the rows of a Parquet file; raises DataError."""
    import pyarrow.parquet as pq

    with _errors(table), table.open() as file:
        schema = pq.ParquetFile(file).schema_arrow
        chosen = choose(table.name, columns, schema.names)
        names = {role: schema.names[place] for role, place in chosen.positions.items()}
        for role, name in names.items():
            _check_type(table, role, name, schema.field(name).type)
        whole = "label" in names and _is_whole(pq.ParquetFile(file), names["label"])
    return Table(lambda: _records(table, names, whole), chosen.warnings)


def _records(table: TableFile, names: dict[str, str], whole: bool) -> Iterator[Record]:
    import pyarrow.parquet as pq

    number = 0
    with _errors(table), table.open() as file:
        for batch in pq.ParquetFile(file).iter_batches(BATCH, columns=list(dict.fromkeys(names.values()))):
            read = {role: batch.column(name).to_pylist() for role, name in names.items()}
            for place in range(batch.num_rows):
                number += 1
                yield Record(
                    number,
                    {role: _value(cells[place], whole=whole and role == "label") for role, cells in read.items()},
                )


def _value(cell: Any, *, whole: bool) -> Value:
    if cell is None or cell != cell:  # NaN
        return None
    if isinstance(cell, bytes):
        return cell
    return str(int(cell) if whole else cell)


def _is_whole(file: Any, name: str) -> bool:
    """Return whether a column has floats that are whole numbers, and missing ones.

    Pandas makes floats of integers where one is missing: 0 is the label, not 0.0.
    """
    import pyarrow as pa

    if not pa.types.is_floating(file.schema_arrow.field(name).type):
        return False
    missing = False
    for batch in file.iter_batches(columns=[name]):
        for value in batch.column(name).to_pylist():
            if value is None or value != value:
                missing = True
            elif not float(value).is_integer():
                return False
    return missing


def _check_type(table: TableFile, role: str, name: str, kind: "pa.DataType") -> None:
    import pyarrow as pa

    types = pa.types
    inner = kind.value_type if types.is_dictionary(kind) else kind
    tests = (
        types.is_string,
        types.is_large_string,
        types.is_string_view,
        types.is_binary,
        types.is_large_binary,
        types.is_binary_view,
        types.is_integer,
        types.is_floating,
        types.is_boolean,
        types.is_decimal,
        types.is_null,
    )
    if not any(test(inner) for test in tests):
        raise DataError(
            f"{table.name}: column {name!r} is of type {one_line(kind, 60)}; expected text"
            f"{' or whole numbers, one class a row' if role == 'label' else ''}: choose another column, or convert it"
        )


@contextmanager
def _errors(table: TableFile) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, ValueError, OSError, KeyError, OverflowError, NotImplementedError) as error:
        reason = one_line(error, 150)
        raise DataError(f"{table.name}: cannot be read as parquet ({reason}); write it again, or as .csv") from None
