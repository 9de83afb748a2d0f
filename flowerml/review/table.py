"""The table that a review writes and `data.split.table` reads: all examples, with the decisions made on some.

It lists every example, because a table of splits leaves out what it does not name; and it names the split of each, so
that another label does not move it, nor any other example, to another split.
"""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flowerml.core import files
from flowerml.core.display import display_path, preview_list, printable
from flowerml.core.errors import DataError
from flowerml.core.regular import open_regular
from flowerml.data.split_table import DROP, FILE, GIVEN, file_name

Kind = Literal["keep", "relabel", "drop"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DECISION, GIVEN_SPLIT = "decision", "given_split"
COLUMNS = (FILE, "split", "group", "label", DECISION, GIVEN_SPLIT, GIVEN)


@dataclass(frozen=True)
class Decision:
    """What becomes of an example; `label` is its new class where it is relabelled."""

    kind: Kind
    label: str | None = None


@dataclass(frozen=True)
class Entry:
    """An example as it is without a decision. `source_label` is that of the source, where another table replaced it."""

    file: str
    label: str
    split: str = ""
    group: str = ""
    source_label: str = ""

    def cells(self, decision: Decision | None) -> tuple[str, ...]:
        """Return the row of the table, in the order of COLUMNS."""
        return (
            self.file,
            DROP if decision and decision.kind == "drop" else self.split,
            self.group,
            (decision and decision.label) or self.label,
            decision.kind if decision else "",
            self.split,
            self.source_label or self.label,
        )


@dataclass(frozen=True)
class Former:
    """The rows of a table that an earlier review wrote: what each example was, and the decisions."""

    entries: dict[str, Entry]
    decisions: dict[str, Decision]

    @classmethod
    def read(cls, path: Path) -> "Former":
        """Read a table; empty where there is none. Raises DataError for a file that no review wrote."""
        if not os.path.lexists(path):
            return cls({}, {})
        try:
            with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                if not {*COLUMNS} <= {*(reader.fieldnames or [])}:
                    raise DataError(
                        f"{display_path(path)}: is no table of a review, and would be replaced; choose another --out"
                    )
                rows = list(reader)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{display_path(path)}: cannot be read as a CSV in UTF-8 ({error})") from None
        return cls(
            {row[FILE]: _entry(row) for row in rows},
            {row[FILE]: _decision(path, row) for row in rows if row[DECISION]},
        )


class LabelTable:
    """The rows of a table and the decisions on them; each decision is on disk when `decide` returns.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "labels.csv")
    >>> table = LabelTable(path, [Entry("1.jpg", "rose", "train"), Entry("2.jpg", "tulip", "test")])
    >>> table.decide("1.jpg", Decision("relabel", "tulip"))
    >>> print(path.read_text().splitlines()[1])
    1.jpg,train,,tulip,relabel,train,rose
    """

    def __init__(self, path: Path, entries: Iterable[Entry], decisions: Mapping[str, Decision] | None = None) -> None:
        """Raises DataError for names that a table cannot hold."""
        self.path = path
        self.entries = {entry.file: entry for entry in entries}
        self.decisions = {file: decision for file, decision in (decisions or {}).items() if file in self.entries}
        _check_names(self.entries.values())
        # Kept as bytes, so that a decision formats one row: 0.1 s to format 50,000, and 0.01 s to write them.
        self._lines = {file: _line(entry.cells(self.decisions.get(file))) for file, entry in self.entries.items()}
        self._written = _identity(path)

    def decide(self, file: str, decision: Decision | None) -> None:
        """Set the decision on an example, None to take it back, and write the table.

        If that fails nothing is changed: raises OSError, and DataError where another program has changed the table.
        """
        former, line = dict(self.decisions), self._lines[file]
        if decision is None:
            self.decisions.pop(file, None)
        else:
            self.decisions[file] = decision
        self._lines[file] = _line(self.entries[file].cells(decision))
        try:
            self.write()
        except (OSError, DataError):
            self.decisions, self._lines[file] = former, line
            raise

    def write(self) -> None:
        """Write all rows, atomically; raises as `decide` does."""
        if _identity(self.path) != self._written:
            raise DataError(
                f"{display_path(self.path)}: another program has changed it since it was read; stop the review, and "
                "start it again to go on from there"
            )
        with files.replacing(self.path) as temporary:
            temporary.write_bytes(b"".join([_line(COLUMNS), *self._lines.values()]))
        self._written = _identity(self.path)

    def label(self, file: str) -> str | None:
        """Return the label of an example after the decision on it; None for one that is dropped."""
        decision = self.decisions.get(file)
        if decision is None or decision.kind == "keep":
            return self.entries[file].label
        return decision.label


def _entry(row: Mapping[str, str]) -> Entry:
    label = row[GIVEN] if row[DECISION] == "relabel" else row["label"]
    return Entry(row[FILE], label, row[GIVEN_SPLIT], row["group"], row[GIVEN])


def _decision(path: Path, row: Mapping[str, str]) -> Decision:
    kind = next((kind for kind in KINDS if kind == row[DECISION]), None)
    if kind is None:
        raise DataError(
            f"{display_path(path)}: the decision {row[DECISION]!r} on {printable(row[FILE])} is not one of "
            f"{', '.join(KINDS)}; correct it, or choose another --out"
        )
    return Decision(kind, row["label"] if kind == "relabel" else None)


def _check_names(entries: Iterable[Entry]) -> None:
    """Raise DataError for classes and files whose names a table would change: it does not keep spaces at their ends."""
    entries = list(entries)
    spaced = sorted({entry.label for entry in entries if entry.label != entry.label.strip()})
    if spaced:
        raise DataError(
            f"a table of splits does not keep the spaces at the ends of these classes: {preview_list(spaced)!r}; "
            "rename them in the data first"
        )
    names: dict[str, str] = {}
    for entry in entries:
        other = names.setdefault(file_name(entry.file), entry.file)
        if other != entry.file:
            raise DataError(f"a table of splits cannot tell {other!r} from {entry.file!r}; rename one of them first")


def _line(cells: Iterable[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode()


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when another program replaces or edits a file; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
