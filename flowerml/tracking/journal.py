"""A write-ahead log of runs: every entry is on disk before it is sent, and so is the offset that MLflow acknowledged.

Not `mlflow.config.enable_async_logging`: its queue is in memory and lost when the process is killed. Not Optuna's
JournalStorage: it stores studies and trials, not runs with their metrics, tags and data sets.
"""

import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
"""One line, a JSON object: {"do": "create" | "log" | "data" | "status", "run": its key, …}."""

RUNNING = "RUNNING"
RESUMED = "resumed after: "


class Journal:
    """A file of one JSON object per line that outlives the process; may be used from two threads.

    Runs are named by keys of the journal's own, so entries can be written for a run that MLflow has not created yet.
    A program that resumes after an interruption replays: a known run is resumed instead of created, and a metric that
    an earlier process has logged for a step is not logged again.

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
        # By ("status", run), ("param", run, name), ("tag", run, name) and ("data", run, values): the last value.
        self._state: dict[tuple[str, ...], str] = {}
        # (run, metric, step) of earlier processes only: the same process may log a step twice.
        self._replayed: set[tuple[str, str, int]] = set()
        self.entries: list[Entry] = []
        self.sent = 0
        self.ids: dict[str, str] = {}
        self.header: dict[str, str] = {**header, "id": uuid.uuid4().hex}
        length = self._replay() if path.exists() else 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.truncate(path, length)  # drop a line that was being written when the process was killed
        if not length:
            self._write({"facts": self.header})

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def name(self) -> str:
        """Return the first run's key; the other runs are its children."""
        return str(self.entries[0]["run"]) if self.entries else self.path.stem

    @property
    def pending(self) -> int:
        """Return the number of entries that are not acknowledged."""
        return len(self.entries) - self.sent

    @property
    def open_runs(self) -> list[str]:
        """Return the keys of the runs that have not ended, the last started first."""
        runs = [entry["run"] for entry in self.entries if entry["do"] == "create"]
        return [run for run in reversed(runs) if self._state["status", run] == RUNNING]

    def create(self, run: str, *, name: str, tags: dict[str, str], time: int) -> None:
        """Start or resume a run."""
        if ("status", run) not in self._state:
            self._append({"do": "create", "run": run, "name": name, "tags": tags, "time": time})
        elif self._state["status", run] != RUNNING:
            self._append({"do": "status", "run": run, "status": RUNNING, "time": time})
            if reason := self._state.get(("tag", run, "reason")):
                self.log(run, tags=[("reason", f"{RESUMED}{reason.removeprefix(RESUMED)}")])

    def log(
        self,
        run: str,
        *,
        metrics: list[tuple[str, float, int, int]] | None = None,
        params: list[tuple[str, str]] | None = None,
        tags: list[tuple[str, str]] | None = None,
    ) -> None:
        """Log a run's metrics (name, value, milliseconds, step), parameters and tags, skipping those already logged."""
        new = {
            "metrics": [metric for metric in metrics or [] if (run, metric[0], metric[3]) not in self._replayed],
            "params": [param for param in params or [] if ("param", run, param[0]) not in self._state],
            "tags": [tag for tag in tags or [] if self._state.get(("tag", run, tag[0])) != tag[1]],
        }
        if any(new.values()):
            self._append({"do": "log", "run": run, **new})

    def log_dataset(self, run: str, values: dict[str, str]) -> None:
        """Log a data set that went into a run."""
        if ("data", run, json.dumps(values)) not in self._state:
            self._append({"do": "data", "run": run, "values": values})

    def end(self, run: str, status: str, *, time: int) -> None:
        """End a run."""
        self._append({"do": "status", "run": run, "status": status, "time": time})

    def acknowledge(self, count: int) -> None:
        """Move the offset past the next `count` entries: MLflow has received them, or rejected them for good."""
        with self._lock:
            self._write({"sent": self.sent + count, "ids": self.ids})
            self.sent += count

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, entry: Entry) -> None:
        with self._lock:
            self._write(entry)
            self.entries.append(entry)
            self._apply(entry)

    def _write(self, value: Entry) -> None:
        # Unbuffered and without fsync: it survives a killed process, not a power cut.
        line, begin = json.dumps(value).encode() + b"\n", os.fstat(self._file).st_size
        try:
            while line:  # a disk that fills up takes a part of it, and fails only at the next write
                line = line[os.write(self._file, line) :]
        except OSError as error:
            error.filename = str(self.path)
            os.ftruncate(self._file, begin)  # what follows half a line would be lost
            raise

    def _apply(self, entry: Entry) -> None:
        run = entry["run"]
        if entry["do"] == "data":
            self._state["data", run, json.dumps(entry["values"])] = ""
        elif entry["do"] == "log":
            self._state.update({("param", run, name): value for name, value in entry["params"]})
            self._state.update({("tag", run, name): value for name, value in entry["tags"]})
        else:
            self._state["status", run] = entry.get("status", RUNNING)

    def _replay(self) -> int:
        """Apply the lines on disk; return the length of the complete ones in bytes."""
        length = 0
        for line, value in _lines(self.path.read_bytes()):
            length += len(line)
            if "facts" in value:
                self.header = value["facts"]
            elif "sent" in value:
                self.sent, self.ids = value["sent"], value["ids"]
            else:
                self.entries.append(value)
                self._apply(value)
                self._replayed.update((value["run"], name, step) for name, _, _, step in value.get("metrics", ()))
        return length


def _lines(content: bytes) -> Iterator[tuple[bytes, Entry]]:
    for line in content.splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            return
        if not line.endswith(b"\n"):
            return
        yield line, value
