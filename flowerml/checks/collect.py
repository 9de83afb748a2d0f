"""What is seen of each example while it is read, and the findings that follow."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.checks import classes, copies
from flowerml.config.params import Checks
from flowerml.data.findings import Finding, to_sorted_json
from flowerml.data.layout import Row
from flowerml.tasks.base import Task
from flowerml.tasks.records import Inspection


@dataclass
class DataSummary:
    """The inspections of readable examples and the errors of the others; some hundred bytes for each example."""

    task: Task
    section: Checks
    """`data.checks` of params.yaml."""
    rows: list[Row] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)
    _signatures: list[NDArray[np.generic]] = field(default_factory=list)
    _notes: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, row: Row, inspection: Inspection) -> None:
        """Add a readable example."""
        self.rows.append(row)
        self._digests.append(inspection.digest)
        self._signatures.append(inspection.signature)
        for name, note in inspection.notes.items():
            self._notes[name][row.id] = note

    def add_unreadable(self, row: Row, name: str, reason: str) -> None:
        """Add an unreadable example under the name of a finding."""
        self._notes[name][row.id] = reason

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
            things = "files" if len(notes) > 1 else "file"
            first_note = next(iter(notes.values()))
            yield Finding(name, len(notes), things, [[id] for id in notes], notes, first_note)
        yield from self._copies()

    def _copies(self) -> Iterator[Finding]:
        if not self.rows:
            return
        equal = copies.equal_groups(self._digests)
        yield from copies.findings(self.rows, equal, exact=True)
        repeated = {index for group in equal for index in group[1:]}
        distinct = [index for index in range(len(self.rows)) if index not in repeated]
        pairs = self.task.near_duplicates(np.stack([self._signatures[index] for index in distinct]), self.section)
        groups = copies.connected_groups((distinct[first], distinct[second]) for first, second in pairs)
        yield from copies.findings(self.rows, groups, exact=False)
