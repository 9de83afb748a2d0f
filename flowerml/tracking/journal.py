"""A write-ahead log of runs: every entry is on disk before it is sent, and so is the offset that MLflow acknowledged.

Not `mlflow.config.enable_async_logging`: its queue is in memory and lost when the process is killed. Not Optuna's
JournalStorage: it stores studies and trials, not runs with their metrics, tags and data sets.
"""

import json
import os
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

Entry = dict[str, Any]
"""One line, a JSON object: {"do": "create" | "log" | "data" | "status", "run": its key, …}."""

RUNNING = "RUNNING"
RESUMED = "resumed after: "


@dataclass
class Known:
    """What is in the journal of one run, so that it is not logged twice.

    `begin` is the offset of its first line. `steps` are the (metric, step) of earlier processes only: the same process
    may log a step twice.
    """

    begin: int
    params: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: set[str] = field(default_factory=set)
    steps: set[tuple[str, int]] = field(default_factory=set)

    def add(self, entry: Entry, *, earlier: bool) -> None:
        """Take note of an entry of the run; `earlier`: of an earlier process, or of a run that had ended."""
        if entry["do"] == "data":
            self.datasets.add(json.dumps(entry["values"]))
        elif entry["do"] == "log":
            self.params.update(name for name, _ in entry["params"])
            self.tags.update((name, value) for name, value in entry["tags"])
            if earlier:
                self.steps.update((name, step) for name, _, _, step in entry["metrics"])


class Journal:
    """A file of one JSON object per line that outlives the process; may be used from two threads.

    Runs are named by keys of the journal's own, so entries can be written for a run that MLflow has not created yet.
    A program that resumes after an interruption replays: a known run is resumed instead of created, and a metric that
    an earlier process has logged for a step is not logged again.

    In memory are only the runs that have not ended, and where the others and the unsent entries are in the file: a
    search of 16,000 trials takes 218 MB on disk, and 7 MB in memory.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     journal = Journal(Path(folder, "runs.jsonl"), experiment="1")
    ...     journal.create("search", name="search", tags={}, time=0)
    ...     journal.log("search", metrics=[("loss", 0.5, 0, 1)])
    ...     journal.acknowledge(1)
    ...     Journal(journal.path).pending  # what the next process has to send
    1
    """

    def __init__(self, path: Path, **header: str) -> None:
        """Replay the journal at `path`, or start one with this header as its first line."""
        self.path = path
        self._lock = threading.Lock()
        self._open: dict[str, Known] = {}
        self._ended: dict[str, tuple[int, int]] = {}  # the offsets between which the run's lines are
        self._unsent: deque[int] = deque()  # the offsets of the entries that are not acknowledged
        self._first: str | None = None
        self.sent = 0
        self.ids: dict[str, str] = {}
        self._new_ids: dict[str, str] = {}
        self.header: dict[str, str] = {**header, "id": uuid.uuid4().hex}
        length = self._replay() if path.exists() else 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.truncate(path, length)  # drop a line that was being written when the process was killed
        if not length:
            self._write({"facts": self.header})

    def __len__(self) -> int:
        return self.sent + len(self._unsent)

    @property
    def name(self) -> str:
        """Return the first run's key; the other runs are its children."""
        return self._first or self.path.stem

    @property
    def pending(self) -> int:
        """Return the number of entries that are not acknowledged."""
        return len(self._unsent)

    @property
    def open_runs(self) -> list[str]:
        """Return the keys of the runs that have not ended, the last started first."""
        return list(reversed(self._open))

    def unsent(self, count: int) -> Iterator[Entry]:
        """Yield the first `count` entries that are not acknowledged, from the file."""
        with self._lock:
            offsets = list(islice(self._unsent, count))
        with self.path.open("rb") as file:
            for offset in offsets:
                file.seek(offset)
                yield json.loads(file.readline())

    def create(self, run: str, *, name: str, tags: dict[str, str], time: int) -> None:
        """Start or resume a run."""
        if run in self._ended:
            self._append({"do": "status", "run": run, "status": RUNNING, "time": time})
            if reason := self._open[run].tags.get("reason"):
                self.log(run, tags=[("reason", f"{RESUMED}{reason.removeprefix(RESUMED)}")])
        elif run not in self._open:
            self._append({"do": "create", "run": run, "name": name, "tags": tags, "time": time})

    def log(
        self,
        run: str,
        *,
        metrics: list[tuple[str, float, int, int]] | None = None,
        params: list[tuple[str, str]] | None = None,
        tags: list[tuple[str, str]] | None = None,
    ) -> None:
        """Log a run's metrics (name, value, milliseconds, step), parameters and tags, skipping those already logged."""
        known = self._known(run)
        new = {
            "metrics": [metric for metric in metrics or [] if (metric[0], metric[3]) not in known.steps],
            "params": [param for param in params or [] if param[0] not in known.params],
            "tags": [tag for tag in tags or [] if known.tags.get(tag[0]) != tag[1]],
        }
        if any(new.values()):
            self._append({"do": "log", "run": run, **new})

    def log_dataset(self, run: str, values: dict[str, str]) -> None:
        """Log a data set that went into a run."""
        if json.dumps(values) not in self._known(run).datasets:
            self._append({"do": "data", "run": run, "values": values})

    def end(self, run: str, status: str, *, time: int) -> None:
        """End a run."""
        self._append({"do": "status", "run": run, "status": status, "time": time})

    def assign(self, run: str, run_id: str) -> None:
        """Take note of the id that MLflow has given a run; it is on disk with the next acknowledgement."""
        with self._lock:
            self.ids[run] = self._new_ids[run] = run_id

    def acknowledge(self, count: int) -> None:
        """Move the offset past the next `count` entries: MLflow has received them, or rejected them for good."""
        with self._lock:
            # The new ids only: with all of them a search of 10,000 trials would write 7 GB.
            self._write({"sent": self.sent + count, "ids": self._new_ids})
            self._new_ids = {}
            self._skip(count)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, entry: Entry) -> None:
        with self._lock:
            begin, end = self._write(entry)
            self._apply(entry, begin, end, earlier=False)

    def _write(self, value: Entry) -> tuple[int, int]:
        """Write a line; return the offsets of its begin and end."""
        # Unbuffered and without fsync: it survives a killed process, not a power cut.
        line, begin = json.dumps(value).encode() + b"\n", os.fstat(self._file).st_size
        end = begin + len(line)
        try:
            while line:  # a disk that fills up takes a part of it, and fails only at the next write
                line = line[os.write(self._file, line) :]
        except OSError as error:
            error.filename = str(self.path)
            os.ftruncate(self._file, begin)  # what follows half a line would be lost
            raise
        return begin, end

    def _apply(self, entry: Entry, begin: int, end: int, *, earlier: bool) -> None:
        """Take note of an entry between two offsets."""
        run = entry["run"]
        self._unsent.append(begin)
        self._first = self._first or run
        if entry["do"] == "status" and entry["status"] != RUNNING:
            known = self._open.pop(run, None)
            first, _ = self._ended.get(run, (begin, end))
            self._ended[run] = (known.begin if known else first, end)
        elif entry["do"] in ("create", "status"):
            self._open[run] = self._known(run, begin)
            self._ended.pop(run, None)
        elif run in self._open:
            self._open[run].add(entry, earlier=earlier)
        elif run in self._ended:
            self._ended[run] = (self._ended[run][0], end)

    def _known(self, run: str, begin: int = 0) -> Known:
        """Return what is in the journal of a run, which is read again where the run has ended."""
        if run in self._open or run not in self._ended:
            return self._open.get(run) or Known(begin)
        begin, end = self._ended[run]
        known, needle = Known(begin), f'"run": {json.dumps(run)}'.encode()
        with self.path.open("rb") as file:
            file.seek(begin)
            for _, line_end, entry in _lines(file, containing=needle):
                if entry.get("run") == run:
                    known.add(entry, earlier=True)
                if line_end >= end:
                    break
        return known

    def _skip(self, count: int) -> None:
        for _ in range(min(count, len(self._unsent))):
            self._unsent.popleft()
        self.sent += count

    def _replay(self) -> int:
        """Apply the lines on disk; return the length of the complete ones in bytes."""
        length = 0
        with self.path.open("rb") as file:
            for begin, length, value in _lines(file):
                if "facts" in value:
                    self.header = value["facts"]
                elif "sent" in value:
                    self._skip(value["sent"] - self.sent)
                    self.ids.update(value["ids"])  # of older versions: all of them, each time
                else:
                    self._apply(value, begin, length, earlier=True)
        return length


def _lines(file: BinaryIO, *, containing: bytes = b"") -> Iterator[tuple[int, int, Entry]]:
    """Yield begin, end and value of each line up to the first that is incomplete; may pass over other lines."""
    end = file.tell()
    for line in file:
        begin, end = end, end + len(line)
        if containing not in line:
            continue
        try:
            value = json.loads(line)
        except ValueError:
            return
        if not (line.endswith(b"\n") and isinstance(value, dict)):
            return
        yield begin, end, value
