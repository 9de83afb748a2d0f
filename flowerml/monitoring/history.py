"""The drift of a log over time: windows of equally many inputs, the last of which decides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flowerml.core.errors import DataError
from flowerml.monitoring.drift import LEVEL, MIN_RECORDS, Drift, compare, first_of_each_input
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import Reference

MOST = 24  # windows, the last ones; each takes up to half a second


@dataclass(frozen=True)
class History:
    """The windows of a log, the oldest first. `size` is the number of distinct inputs of each, `repeats` how many
    records had an input that was sent before.
    """

    size: int
    windows: tuple[Drift, ...]
    repeats: int

    @property
    def latest(self) -> Drift:
        """Return the last window, which says whether it drifted."""
        return self.windows[-1]

    @property
    def since(self) -> float | None:
        """Return the start of the first of the windows up to the last that all drifted; None if the last has not."""
        start = None
        for window in reversed(self.windows):
            if not window.drifted:
                break
            start = window.since
        return start

    def to_json(self) -> dict[str, Any]:
        """Return the latest window as plain data, with a line for each window."""
        lines = [
            {
                "since": window.since,
                "until": window.until,
                "records": window.records,
                "drifted": window.drifted,
                "smallest_p": window.smallest_p,
                "changed": [comparison.name for comparison in window.comparisons if comparison.drifted],
            }
            for window in self.windows
        ]
        return {**self.latest.to_json(), "drifted_since": self.since, "repeats": self.repeats, "windows": lines}


def history(reference: Reference, records: Sequence[Record], *, size: int, level: float = LEVEL) -> History:
    """Return the drift of records, ordered by time, in windows of `size` distinct inputs; at most MOST, the last ones.

    Each window is tested at the level by itself: of fifty without a change one may be significant, which is why only
    the last decides. What is left at the start counts as a window if it holds MIN_RECORDS inputs.
    Raises DataError where there are fewer in all.
    """
    distinct = first_of_each_input(records)
    if len(distinct) < MIN_RECORDS:
        raise DataError(
            f"expected records of at least {MIN_RECORDS} distinct inputs, found {len(distinct):,}; wait for more of "
            "them, or name an earlier --since"
        )
    windows = list(windows_of(distinct, size))[-MOST:]
    drifts = tuple(compare(reference, window, level=level) for window in windows)
    return History(size, drifts, len(records) - len(distinct))


def windows_of(records: Sequence[Record], size: int) -> Iterator[Sequence[Record]]:
    """Yield the records in windows of `size`, counted from the end, so that the last one is full."""
    rest = len(records) % size
    if rest >= MIN_RECORDS or len(records) < size:
        yield records[:rest]
    for start in range(rest, len(records), size):
        yield records[start : start + size]
