"""What is seen of each example while it is read, and the findings that come of it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flowerml.checks import classes, copies
from flowerml.data.findings import Finding, to_sorted_json
from flowerml.data.layout import Row
from flowerml.tasks.base import Inspection, Task


@dataclass
class Gathered:
    """The facts of the examples that could be read, and the faults of those that could not.

    Memory grows by some hundred bytes with each example.
    """

    task: Task
    section: Any
    """`data.checks` of params.yaml."""
    rows: list[Row] = field(default_factory=list)
    _digests: list[bytes] = field(default_factory=list)
    _signatures: list[Any] = field(default_factory=list)
    _notes: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, row: Row, inspection: Inspection) -> None:
        """Keep the facts of an example that was read."""
        self.rows.append(row)
        self._digests.append(inspection.digest)
        self._signatures.append(inspection.signature)
        for name, seen in inspection.notes.items():
            self._notes[name][row.id] = seen

    def refuse(self, row: Row, name: str, reason: str) -> None:
        """Keep why an example was left out, under the name of a finding."""
        self._notes[name][row.id] = reason

    def findings(self, listed: list[Row], folders: Iterable[str], more: Iterable[Finding] = ()) -> list[dict[str, Any]]:
        """All that was found, and `more`, the worst first, as plain data.

        `listed` are the rows that were to be read, `folders` the class folders without an example.
        """
        return to_sorted_json([*more, *self._findings(listed, folders)])

    def _findings(self, listed: list[Row], folders: Iterable[str]) -> Iterator[Finding]:
        sizes = {"tiny_class": self.section.tiny_class, "imbalance": self.section.imbalance}
        yield from classes.findings(listed, self.rows, folders, **sizes)
        for name, notes in self._notes.items():
            seen = next(iter(notes.values()))
            yield Finding(name, len(notes), "files" if len(notes) > 1 else "file", [[id] for id in notes], notes, seen)
        yield from self._copies()

    def _copies(self) -> Iterator[Finding]:
        if not self.rows:
            return
        same = copies.same(self._digests)
        yield from copies.findings(self.rows, same, exact=True)
        again = {number for group in same for number in group[1:]}
        once = [number for number in range(len(self.rows)) if number not in again]
        pairs = self.task.near_duplicates(np.stack([self._signatures[number] for number in once]), self.section)
        groups = copies.joined((once[one], once[other]) for one, other in pairs)
        yield from copies.findings(self.rows, groups, exact=False)
