"""The reference that travels in a classifier: the watched numbers of some validation examples.

What a model is asked is compared with it, also where the training data are far away. It holds no input.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from flowerml.classifier import saved
from flowerml.core import schema
from flowerml.core.errors import ModelError
from flowerml.monitoring import profile
from flowerml.monitoring.record import Record

FORMAT = 1
ROWS = 1000  # of the file; a window of 500 is compared with them
MAX_BYTES = 200_000  # of the file
FEW = 10  # rows: a file of so few is small enough, whatever the length of its words
MAX_COLUMNS = 100
LARGEST = 1e300

Value = float | str | None
_NAMES = schema.items(schema.text(100), 0, MAX_COLUMNS, unique=True)
_NUMBERS = schema.items(schema.nullable(schema.number(-LARGEST, LARGEST)), 0, ROWS)
_WORDS = schema.record(
    {
        "values": schema.items(schema.string(), 0, ROWS, unique=True),
        "codes": schema.items(schema.nullable(schema.whole(0, ROWS)), 0, ROWS),
    }
)
_ACCURACY = schema.record(
    {"split": schema.text(100), "correct": schema.whole(0, 10**12), "count": schema.whole(1, 10**12)}
)
SCHEMA = schema.record(
    {
        "format": schema.whole(FORMAT, FORMAT),
        "features": _NAMES,
        "columns": schema.mapping(schema.either("numbers, or words by their codes", _NUMBERS, _WORDS)),
    },
    {"accuracy": schema.nullable(_ACCURACY)},
)


@dataclass(frozen=True)
class Accuracy:
    """How many of some examples were classified correctly.

    >>> Accuracy("valid", correct=9, count=10).share
    0.9
    """

    split: str
    correct: int
    count: int

    @property
    def share(self) -> float:
        """The share that was classified correctly."""
        return self.correct / self.count


@dataclass(frozen=True)
class Reference:
    """Columns by name, each of `count` values: numbers, or words; None where an example has none.

    The names are those of `profile.row`, which reads a log's records with the same `features`. `accuracy` is that on
    validation examples.

    >>> reference = Reference({"words": (4.0, None), "class": ("pos", "neg")}, features=())
    >>> Reference.from_bytes(reference.to_bytes()) == reference, reference.count
    (True, 2)
    """

    columns: Mapping[str, tuple[Value, ...]]
    features: tuple[str, ...]
    accuracy: Accuracy | None = None

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(next(iter(self.columns.values()), ()))

    @classmethod
    def of(cls, records: Iterable[Record], *, features: Sequence[str] = (), accuracy: Accuracy | None = None) -> Self:
        """Return the reference of examples; of those that were read, ROWS or fewer, evenly spaced.

        `features` are the names of the records' features. Numbers are rounded, and there are fewer rows where a file
        of all would take more than MAX_BYTES.
        """
        rows = [values for record in records if (values := profile.row(record, features))]
        count = min(len(rows), ROWS)
        while True:
            chosen = [rows[number * len(rows) // count] for number in range(count)]
            names = list(dict.fromkeys(name for values in chosen for name in values))
            columns = {name: tuple(values.get(name) for values in chosen) for name in names}
            reference = cls(columns, tuple(features), accuracy)
            if len(reference.to_bytes()) <= MAX_BYTES or count < FEW:
                return reference
            count = count * 9 // 10

    def to_bytes(self) -> bytes:
        """Return the file: the same reference gives the same bytes."""
        value = {
            "format": FORMAT,
            "features": list(self.features),
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
            "columns": {name: _packed(column) for name, column in self.columns.items()},
        }
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Return the reference in a file, which may come from a stranger; raises ModelError."""
        try:
            return cls._parsed(schema.parse(content))
        except ValueError as error:  # ModelError, too
            raise ModelError(f"{saved.REFERENCE}: {error}; copy the whole folder again") from None

    @classmethod
    def _parsed(cls, value: Any) -> Self:
        SCHEMA(value, "")
        schema.plain(value, "")
        _NAMES(list(value["columns"]), "columns")
        columns = {name: _unpacked(packed, f"columns.{name}") for name, packed in value["columns"].items()}
        if len({len(column) for column in columns.values()}) > 1:
            raise ModelError("expected columns of one length")
        accuracy = value.get("accuracy")
        return cls(
            columns,
            tuple(value["features"]),
            Accuracy(**{field.name: accuracy[field.name] for field in fields(Accuracy)}) if accuracy else None,
        )


def read_reference(folder: Path, description: Mapping[str, Any]) -> Reference | None:
    """Return the reference of a saved classifier with this description; None where it was saved without one.

    Raises ModelError where the file is missing or is not the one that was saved.
    """
    content = saved.read_extra(folder, description, saved.REFERENCE)
    return None if content is None else Reference.from_bytes(content)


def _packed(column: Sequence[Value]) -> Any:
    words = list(dict.fromkeys(value for value in column if isinstance(value, str)))
    if words:
        return {"values": words, "codes": [None if value is None else words.index(str(value)) for value in column]}
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in column]


def _unpacked(packed: Any, name: str) -> tuple[Value, ...]:
    if isinstance(packed, list):
        return tuple(None if value is None else float(value) for value in packed)
    words, codes = packed["values"], packed["codes"]
    if any(code is not None and code >= len(words) for code in codes):
        raise ModelError(f"{name}: found a code without a word")
    return tuple(None if code is None else words[code] for code in codes)
