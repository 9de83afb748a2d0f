"""Entries of a journal, in as few calls to MLflow as it accepts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from flowerml.tracking.journal import Entry

# What MLflow accepts in one `log_batch`.
LIMITS = {"metrics": 1000, "params": 100, "tags": 100}

Numbered = tuple[int, Entry]
"""An entry with its number in the journal."""


@dataclass(frozen=True)
class Call:
    """Entries of one run, of one kind, that go to MLflow in one call, with their numbers in the journal."""

    numbers: tuple[int, ...]
    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, numbered: Iterable[Numbered]) -> "Call":
        """Return the call for numbered entries."""
        numbers, entries = zip(*numbered, strict=True)
        return cls(numbers, entries)

    @property
    def run(self) -> str:
        """Return the run's key."""
        return str(self.entries[0]["run"])

    @property
    def kind(self) -> str:
        """Return what it does: create, log, data or status."""
        return str(self.entries[0]["do"])

    def halves(self) -> "list[Call]":
        """Return the first and the second half of the entries as calls of their own."""
        middle = len(self.numbers) // 2
        return [
            Call(self.numbers[:middle], self.entries[:middle]),
            Call(self.numbers[middle:], self.entries[middle:]),
        ]


def calls(window: Iterable[Numbered]) -> list[Call]:
    """Return the calls for consecutive entries of several runs, which may have written theirs in turns.

    Runs are created first, as a tag may name a run that is created after it. What a run logs is merged, and keeps its
    order.

    >>> empty = {"metrics": [], "params": [], "tags": []}
    >>> [(call.run, call.numbers) for call in calls(enumerate({"do": "log", "run": run, **empty} for run in "aba"))]
    [('a', (0, 2)), ('b', (1,))]
    """
    created: list[Call] = []
    runs: dict[str, list[Numbered]] = {}
    for number, entry in window:
        if entry["do"] == "create":
            created.append(Call((number,), (entry,)))
        else:
            runs.setdefault(entry["run"], []).append((number, entry))
    return created + [call for entries in runs.values() for call in _of_run(entries)]


def _of_run(entries: Iterable[Numbered]) -> Iterator[Call]:
    """Yield the calls for one run: what it logs and its data sets, before each change of its status."""
    logged: list[Numbered] = []
    datasets: list[Numbered] = []
    for numbered in entries:
        match numbered[1]["do"]:
            case "log":
                logged.append(numbered)
            case "data":
                datasets.append(numbered)
            case _:
                yield from _merged(logged, datasets)
                yield Call.of([numbered])
                logged, datasets = [], []
    yield from _merged(logged, datasets)


def _merged(logged: Iterable[Numbered], datasets: list[Numbered]) -> Iterator[Call]:
    batch: list[Numbered] = []
    counts = dict.fromkeys(LIMITS, 0)
    for numbered in logged:
        sizes = {kind: len(numbered[1][kind]) for kind in LIMITS}
        if batch and any(counts[kind] + sizes[kind] > LIMITS[kind] for kind in LIMITS):
            yield Call.of(batch)
            batch, counts = [], dict.fromkeys(LIMITS, 0)
        batch.append(numbered)
        counts = {kind: counts[kind] + sizes[kind] for kind in LIMITS}
    for entries in (batch, datasets):
        if entries:
            yield Call.of(entries)
