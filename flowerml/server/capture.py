"""What was answered, on its way to the prediction log and to the sliding windows, off the path of the request.

A request only puts its answer into a bounded queue. One thread measures the inputs, writes, and compares: in bursts, so
that most requests never meet it, and with a bounded share of the processor. What it cannot do in time it leaves out and
counts; a full disk is reported once, and the server goes on.
"""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from flowerml.classifier.prediction import Prediction
from flowerml.core.display import printable
from flowerml.core.errors import InputError
from flowerml.data.examples import Raw
from flowerml.monitoring.inputs import Inputs, inputs_folder
from flowerml.monitoring.log import Log
from flowerml.monitoring.record import Properties, Record
from flowerml.monitoring.window import Window
from flowerml.server.metrics import Metrics
from flowerml.server.settings import Settings
from flowerml.tasks.properties import input_properties

if TYPE_CHECKING:
    from flowerml.server.loading import Loaded

QUEUE = 4096  # answers
QUEUE_BYTES = 64 * 2**20  # of their inputs
PAUSE = 0.25  # seconds between two bursts
BATCH = 256  # lines in one write
CPU_SHARE = 0.05  # of the cores, for the properties of inputs in the log; a picture's take 2 ms
SAMPLED_SHARE = 0.01  # without a log: some answers a second are enough for the window
SAVED_SECONDS = 1.0  # for which an unused share may be used later
SETTLED = 60.0  # seconds without it, after which a trouble is over
CLOSING = 3.0  # seconds for properties once the server stops; the rest is written without

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answered:
    """An answer that waits for its turn."""

    time: float
    loaded: "Loaded"
    raw: Raw | None
    answer: Prediction | InputError
    request: str
    size: int


class Capture:
    """The prediction log and the sliding windows of a server process, fed from any thread.

    Raises FlowermlError where the log cannot be written.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._log = _open_log(settings)
        self._inputs = _open_inputs(settings)
        self._window, self._seconds = settings.drift_window, settings.drift_seconds
        self._windows: WeakKeyDictionary[Loaded, Window] = WeakKeyDictionary()
        self._budget = Budget((CPU_SHARE if self._log is not None else SAMPLED_SHARE) * settings.threads)
        self._full, self._unwritten, self._unkept, self._bugs = Trouble(), Trouble(), Trouble(), Trouble()
        self._queue: deque[_Answered] = deque()
        self._bytes = 0  # of the inputs in the queue and in the burst
        self._refused = 0
        self._lock = threading.Lock()  # of the three above
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)
        self._thread.start()

    def observe(
        self, loaded: "Loaded", raw: Raw | InputError | None, answer: Prediction | InputError, request: str
    ) -> None:
        """Take note of an answer; never raises, and never waits. `raw` is None or an error where nothing was read."""
        if self._log is None and not self._watches(loaded):
            return
        content = None if isinstance(raw, InputError) else raw
        size = sys.getsizeof(content)
        answered = _Answered(time.time(), loaded, content, answer, request, size)
        with self._lock:
            if len(self._queue) >= QUEUE or self._bytes + size > QUEUE_BYTES:
                self._refused += 1
                return
            self._queue.append(answered)
            self._bytes += size
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what waits, for a few seconds at most, and end."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSING + 2.0)

    def _watches(self, loaded: "Loaded") -> bool:
        return self._window > 0 and loaded.reference is not None

    def _run(self) -> None:
        """Work in bursts until `close`, whatever fails."""
        if self._window:
            with suppress(ImportError):  # the comparison reports it
                import_module("scipy.stats")  # takes a second, better now than in the middle of the requests
        while not self._closing.is_set():
            self._wake.wait(self._seconds_to_comparison())
            self._closing.wait(PAUSE)
            self._try_burst()
        self._budget.grant(CLOSING)
        self._try_burst()

    def _try_burst(self) -> None:
        try:
            self._burst()
        except Exception as error:  # of the metrics, whose files may be on a full disk
            self._bugs.report(0, "a bug", error)

    def _burst(self) -> None:
        self._wake.clear()
        with self._lock:
            answers, self._queue = self._queue, deque()
            refused, self._refused = self._refused, 0
        if refused and self._log is not None:
            self._metrics.log_dropped("queue", refused)
            self._full.report(refused, "answers come faster than they can be logged")
        while answers:
            batch = [answers.popleft() for _ in range(min(BATCH, len(answers)))]
            try:
                self._process(batch)
            except Exception as error:  # a bug; answers go on, and so does the log
                self._metrics.log_dropped("failed", len(batch))
                self._bugs.report(len(batch), "a bug", error)
            with self._lock:
                self._bytes -= sum(answered.size for answered in batch)
        self._compare()
        for trouble in (self._full, self._unwritten, self._unkept, self._bugs):
            trouble.settle()

    def _process(self, batch: Sequence[_Answered]) -> None:
        # Only a log needs the answers for which there is no time to measure their inputs.
        chosen = [
            (answered, self._record(answered)) for answered in batch if self._log is not None or self._budget.is_left()
        ]
        self._write([record for _, record in chosen])
        for answered, record in chosen:
            self._keep(answered.raw, record)
            self._watch(answered.loaded, record)

    def _record(self, answered: _Answered) -> Record:
        measured = answered.raw is not None and isinstance(answered.answer, Prediction)
        return Record.of(
            answered.raw,
            answered.answer,
            time=answered.time,
            request=answered.request,
            model=answered.loaded.model,
            properties=self._measure(answered) if measured else {},
        )

    def _measure(self, answered: _Answered) -> Properties:
        """Return the properties of an input; none where this has had its share of the processor."""
        if not self._budget.is_left():
            self._metrics.without_properties(1)
            return {}
        with self._budget.spending():
            try:
                return input_properties(answered.loaded.classifier.task, answered.raw)
            except Exception as error:  # a bug, or out of memory, for this input; its record and the others are written
                self._bugs.report(1, "the properties of an input cannot be measured", error)
                return {}

    def _write(self, records: Sequence[Record]) -> None:
        if self._log is None:
            return
        try:
            self._log.append(records)
        except OSError as error:
            self._metrics.log_dropped("disk", len(records))
            self._unwritten.report(len(records), f"{printable(str(self._log.path))}: {error.strerror}")
        else:
            self._metrics.log_written(len(records))

    def _keep(self, raw: Raw | None, record: Record) -> None:
        if self._inputs is None or raw is None or not self._inputs.is_chosen(record.digest):
            return
        try:
            self._inputs.keep(raw, record.digest)
        except OSError as error:
            self._unkept.report(1, f"{printable(str(self._inputs.folder))}: {error.strerror}")

    def _watch(self, loaded: "Loaded", record: Record) -> None:
        if not self._watches(loaded) or loaded.reference is None:
            return
        if (window := self._windows.get(loaded)) is None:
            window = self._windows[loaded] = Window(loaded.reference, size=self._window, seconds=self._seconds)
        window.add(record)

    def _seconds_to_comparison(self) -> float | None:
        return min((wait for window in self._windows.values() if (wait := window.wait()) is not None), default=None)

    def _compare(self) -> None:
        for loaded, window in list(self._windows.items()):
            try:
                drift = window.compare()
            except Exception as error:  # a bug; answers go on, and so does the log
                self._bugs.report(0, "the last answers cannot be compared with the reference", error)
                continue
            if drift is not None:
                name, version = str(loaded.model["name"]), loaded.model["version"]
                self._metrics.drift(name, version, drift.drifted, drift.smallest_p, drift.distinct)


class Budget:
    """A share of the processor for one thread: `share` of its seconds each second, by the thread's own clock.

    >>> budget = Budget(0.1)
    >>> with budget.spending():
    ...     _ = sum(range(10))
    >>> budget.is_left()
    True
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._left = share * SAVED_SECONDS
        self._updated = time.monotonic()

    def is_left(self) -> bool:
        """Return whether anything of the share is left now."""
        now = time.monotonic()
        granted = self._left + (now - self._updated) * self._share
        self._left, self._updated = min(granted, max(self._left, self._share * SAVED_SECONDS)), now
        return self._left > 0

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Count the processor's time of the block."""
        start = time.thread_time()
        try:
            yield
        finally:
            self._left -= time.thread_time() - start

    def grant(self, seconds: float) -> None:
        """Add seconds of the processor."""
        self._left = max(0.0, self._left) + seconds


class Trouble:
    """A trouble that is reported when it begins and when it has been over for a minute, however often it occurs."""

    def __init__(self) -> None:
        self._lost = 0
        self._last: float | None = None

    def report(self, lost: int, reason: str, error: Exception | None = None) -> None:
        """Note that records were lost; `error` is shown with its trace, for bugs."""
        if self._last is None:
            _log.warning("prediction log: %s; the server goes on without these records", reason, exc_info=error)
        self._lost += lost
        self._last = time.monotonic()

    def settle(self) -> None:
        """Report that it is over, once it is."""
        if self._last is not None and time.monotonic() - self._last > SETTLED:
            _log.warning("prediction log: goes on; %s records were lost", f"{self._lost:,}")
            self._lost, self._last = 0, None


def _open_log(settings: Settings) -> Log | None:
    if settings.log is None:
        return None
    return Log(settings.log, size=settings.log_bytes, files=settings.log_files)


def _open_inputs(settings: Settings) -> Inputs | None:
    if settings.log is None or not settings.keep_inputs:
        return None
    return Inputs(inputs_folder(settings.log.resolve()), share=settings.keep_inputs, size=settings.keep_bytes)
