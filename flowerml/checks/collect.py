"""What is seen of each example while it is read, and the findings that follow."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.checks import classes, copies
from flowerml.config.params import Checks
from flowerml.data.findings import MAX_GROUPS, Finding, to_sorted_json
from flowerml.data.layout import Row
from flowerml.tasks.base import Task
from flowerml.tasks.records import Inspection


@dataclass
class DataSummary:
    """The inspections of readable examples and the errors of the others; some hundred bytes for each example.

    Of each finding the notes of the first MAX_GROUPS examples are kept, and the number of all.
    """

    task: Task
    section: Checks
    """`data.checks` of params.yaml."""
    rows: list[Row] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)
    # One buffer, since a million arrays take 112 MB more than their numbers, and twice that while they are stacked.
    _signatures: bytearray = field(default_factory=bytearray)
    _signature: NDArray[np.generic] | None = None
    _notes: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row, inspection: Inspection) -> None:
        """Add a readable example."""
        self.rows.append(row)
        self._digests.append(inspection.digest)
        self._signature = inspection.signature
        self._signatures += np.ascontiguousarray(inspection.signature).data.cast("B")
        for name, note in inspection.notes.items():
            self._note(name, row, note)

    def add_unreadable(self, row: Row, name: str, reason: str) -> None:
        """Add an unreadable example under the name of a finding."""
        self._note(name, row, reason)

    def _note(self, name: str, row: Row, note: str) -> None:
        self._counts[name] += 1
        if len(self._notes[name]) < MAX_GROUPS:
            self._notes[name][row.id] = note

    def findings(self, listed: list[Row], folders: Iterable[str], more: Iterable[Finding] = ()) -> list[dict[str, Any]]:
        """Return all findings and `more`, the worst first, as plain data.

        `listed` are the rows that were to be read, `folders` the class folders without an example.
        """
        return to_sorted_json([*more, *self._findings(listed, folders)])

    def _findings(self, listed: list[Row], folders: Iterable[str]) -> Iterator[Finding]:
        yield from classes.findings(
            listed,
            self.rows,
            folders,
            tiny_class=self.section.tiny_class,
            imbalance=self.section.imbalance,
        )
        for name, notes in self._notes.items():
            count = self._counts[name]
            things = "files" if count > 1 else "file"
            first_note = next(iter(notes.values()))
            yield Finding(name, count, things, [[id] for id in notes], notes, first_note)
        yield from self._copies()

    def _copies(self) -> Iterator[Finding]:
        if not self.rows:
            return
        equal = copies.equal_groups(self._digests)
        yield from copies.findings(self.rows, equal, exact=True)
        distinct = np.ones(len(self.rows), dtype=bool)
        for group in equal:
            distinct[group[1:]] = False
        signatures = self._stacked()
        similar = self.task.near_duplicates(signatures if distinct.all() else signatures[distinct], self.section)
        numbers = np.flatnonzero(distinct)
        groups = [numbers[group].tolist() for group in similar.groups]
        yield from copies.similar_findings(self.rows, replace(similar, groups=groups))

    def _stacked(self) -> NDArray[np.generic]:
        """Return the signatures of all rows, [N, …]."""
        assert self._signature is not None
        flat = np.frombuffer(self._signatures, dtype=self._signature.dtype)
        return flat.reshape(len(self.rows), *self._signature.shape)
