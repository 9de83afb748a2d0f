"""Columns of a table by name or number, and the values of its rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from flowerml.core.display import printable
from flowerml.core.errors import DataError

MAX_NAMED = 8  # columns that a message names
Value = str | bytes | None


class MissingColumnError(DataError):
    """A table without the column of a role."""

    def __init__(self, role: str, message: str) -> None:
        super().__init__(message)
        self.role = role


@dataclass(frozen=True)
class Column:
    """A column to read: its name in the header, or its number from 0; None where the user has none.

    `option` is what a user types to choose another, up to the equals sign, such as "-S data.text_column". Where
    `lonely` and the table has two columns, the one that no other column is named for is taken.
    """

    role: str
    name: str | int | None
    option: str
    lonely: bool = False
    optional: bool = False
    """Whether a table may lack it."""

    def __str__(self) -> str:
        return f"column {self.name!r}"


@dataclass(frozen=True)
class Record:
    """A row: its number from 1, its values by role (None: missing), and the reason why it cannot be used, if any."""

    number: int
    values: dict[str, Value]
    problem: str | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a table, to be read once or more, and warnings of one line."""

    records: Callable[[], Iterator[Record]]
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Chosen:
    """The positions of the wanted columns by role, and warnings."""

    positions: dict[str, int]
    warnings: list[str] = field(default_factory=list)


def is_numbered(columns: Sequence[Column], header: Sequence[str]) -> bool:
    """Return whether the columns are given by number, so that the first line is a row and no header.

    Pandas heads columns without names by their numbers: then these are the header.
    """
    numbered = [column for column in columns if isinstance(column.name, int)]
    return bool(numbered) and [name.strip() for name in header] != [str(number) for number in range(len(header))]


def choose(table: str, columns: Sequence[Column], header: Sequence[str]) -> Chosen:
    """Return the positions of the columns in a header; raises MissingColumnError, and DataError for a name twice."""
    names = [name.strip() for name in header]
    positions: dict[str, int] = {}
    warnings = []
    for column in columns:
        if column.name is None:
            continue
        position = _position(table, column, names)
        if position is None and column.lonely and len(names) == 2 and len(positions) == 1:
            position = 1 - next(iter(positions.values()))
            warnings.append(
                f"there is no {column}; the only other column {printable(names[position])!r} is taken for it "
                f"({column.option}={printable(names[position])})"
            )
        if position is not None:
            positions[column.role] = position
        elif not column.optional:
            raise MissingColumnError(column.role, _missing(table, column, names))
    return Chosen(positions, warnings)


def numbered(table: str, columns: Sequence[Column], count: int) -> Chosen:
    """Return the positions of columns given by number; raises DataError for a name or a number that is too high."""
    positions = {}
    for column in columns:
        if column.optional and not (isinstance(column.name, int) and column.name < count):
            continue
        if isinstance(column.name, str):
            raise DataError(
                f"{table}: {column.option}={column.name} is a name, and another column is given by its number, which "
                "says that there is no header; give the numbers of all, from 0"
            )
        if column.name is not None:
            if column.name >= count:
                raise MissingColumnError(
                    column.role,
                    f"{table}: no {column}; it has {count:,}, from 0: give another with {column.option}=NUMBER",
                )
            positions[column.role] = column.name
    return Chosen(positions)


def _position(table: str, column: Column, names: list[str]) -> int | None:
    if isinstance(column.name, int):
        return column.name if column.name < len(names) else None
    assert column.name is not None
    places = [place for place, name in enumerate(names) if name == column.name.strip()]
    if len(places) > 1:
        raise DataError(f"{table}: {len(places)} columns are named {column.name!r}; rename all but one")
    return places[0] if places else None


def _missing(table: str, column: Column, names: list[str]) -> str:
    available = ", ".join(printable(name, 40) for name in names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
    return (
        f"{table}: no {column}; it has {available or 'none'}: name one of these with {column.option}=NAME, or give its "
        "number from 0 where the first line is no header"
    )
