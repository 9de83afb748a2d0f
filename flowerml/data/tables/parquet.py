"""Parquet, one row group at a time."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from flowerml.core.display import one_line
from flowerml.core.errors import DataError
from flowerml.data.tables.columns import Column, Record, Table, Value, choose
from flowerml.data.tables.files import TableFile

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 1024  # rows
GROUP_BATCH = 256  # rows, where they may be pictures


def open_parquet(table: TableFile, columns: Sequence[Column]) -> Table:
    """Return the rows of a Parquet file; raises DataError."""
    import pyarrow.parquet as pq

    with _errors(table), table.open() as file:
        names, warnings = _names(table, columns, pq.ParquetFile(file).schema_arrow)
        whole = "label" in names and _is_whole(pq.ParquetFile(file), names["label"])
    return Table(lambda: _records(table, names, whole), warnings)


class ParquetRows:
    """Any rows of a Parquet file with columns of these names by role.

    Row groups without a wanted row are not read. The file stays open: rows that follow the last ones are read on from
    there, and others from the start of their row group.
    """

    def __init__(self, table: TableFile, names: Mapping[str, str]) -> None:
        import pyarrow.parquet as pq

        self._table, self._names = table, names
        with _errors(table):
            self._file = pq.ParquetFile(table.opener())
            metadata = self._file.metadata
            sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        self._starts = [0, *accumulate(sizes)]
        self._group = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._start = 0  # of the batch

    def __len__(self) -> int:
        return self._starts[-1]

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def read(self, first: int, count: int) -> Iterator[Record]:
        """Yield rows in order, counted from 0; raises DataError."""
        end = first + count
        if end > len(self):
            raise DataError(f"{self._table.name}: has changed, it has {len(self):,} rows now; re-run the command")
        while first < end:
            with _errors(self._table):
                batch = self._batch_with(first)
                part = batch.slice(first - self._start, end - first)
                read = {role: part.column(name).to_pylist() for role, name in self._names.items()}
            for place in range(part.num_rows):
                first += 1
                yield Record(first, {role: _value(cells[place], whole=False) for role, cells in read.items()})

    def _batch_with(self, row: int) -> "pa.RecordBatch":
        """Return the batch that holds a row."""
        group = bisect_right(self._starts, row) - 1
        if group != self._group or row < self._start or self._batch is None:
            columns = list(dict.fromkeys(self._names.values()))
            self._batches = self._file.iter_batches(GROUP_BATCH, row_groups=[group], columns=columns)
            self._group, self._start, self._batch = group, self._starts[group], next(self._batches)
        while row >= self._start + self._batch.num_rows:
            self._start += self._batch.num_rows
            self._batch = next(self._batches)
        return self._batch


def row_names(table: TableFile, columns: Sequence[Column]) -> tuple[dict[str, str], int]:
    """Return the names of the chosen columns by role, and the number of rows; raises DataError. No row is read."""
    import pyarrow.parquet as pq

    with _errors(table), table.open() as file:
        parquet = pq.ParquetFile(file)
        return _names(table, columns, parquet.schema_arrow)[0], parquet.metadata.num_rows


def _names(table: TableFile, columns: Sequence[Column], schema: "pa.Schema") -> tuple[dict[str, str], list[str]]:
    """Return the names of the chosen columns by role, and warnings."""
    chosen = choose(table.name, columns, schema.names)
    names = {role: schema.names[place] for role, place in chosen.positions.items()}
    for role, name in names.items():
        _check_type(table, role, name, schema.field(name).type)
    return names, chosen.warnings


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
