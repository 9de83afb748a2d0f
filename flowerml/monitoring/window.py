"""A sliding window over the records of one version of a model, compared with the version's reference."""

from collections import OrderedDict
from time import monotonic, thread_time

from flowerml.monitoring.drift import MIN_RECORDS, MIN_VALUES, Drift, compare
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import Reference

CPU_SHARE = 0.05  # of a core, at most, for comparisons


class Window:
    """The last `size` different inputs of a version. For one thread.

    An input that is sent again is there once, with its last record: the tests ask for independent examples, and a probe
    that sends the same picture every second would fill the window. `seconds` pass between two comparisons; more where
    one takes long.
    """

    def __init__(self, reference: Reference, *, size: int, seconds: float) -> None:
        self._reference = reference
        self._size = size
        self._seconds = seconds
        self._records: OrderedDict[object, Record] = OrderedDict()
        self._fresh = False
        self._due = monotonic() + seconds

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Add a record; beyond `size` the oldest goes."""
        key = record.digest or object()  # without a digest: an input that could not even be read
        self._records[key] = record
        self._records.move_to_end(key)
        if len(self._records) > self._size:
            self._records.popitem(last=False)
        self._fresh = True

    def wait(self) -> float | None:
        """Return the seconds until the next comparison, None where nothing can be compared yet."""
        if not self._fresh or len(self) < MIN_RECORDS or self._reference.count < MIN_VALUES:
            return None
        return max(0.0, self._due - monotonic())

    def compare(self) -> Drift | None:
        """Return the drift of the records, None where it is not yet time, or nothing new has come."""
        if self.wait() != 0:
            return None
        start = thread_time()
        try:
            return compare(self._reference, list(self._records.values()))
        finally:  # also after a bug, which would be met again at once
            self._fresh = False
            self._due = monotonic() + max(self._seconds, (thread_time() - start) / CPU_SHARE)
