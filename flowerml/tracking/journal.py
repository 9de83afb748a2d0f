"""What is to be recorded of runs, on disk before it is sent to anyone, and how much of it has been received."""

import json
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
RUNNING = "RUNNING"
AGAIN = "gone on with after: "


class Journal:
    """A file of one JSON object a line, which outlives the process; may be used from two threads.

    Runs are named by keys of the journal's own, so that a run can be told of that nobody has made yet. A program that
    goes on where an earlier one was interrupted simply tells its story again: a run that is known is gone on with, and
    a number that the earlier one has given for a step is not written a second time.
    """

    def __init__(self, path: Path, **facts: str) -> None:
        """The journal in a file, or a new one with these facts in its first line."""
        self.path = path
        self._lock = threading.Lock()
        self._said: dict[tuple[Any, ...], Any] = {}
        self._said_earlier: set[tuple[str, str, int]] = set()
        self.entries: list[Entry] = []
        self.sent = 0
        self.ids: dict[str, str] = {}
        self.facts: dict[str, str] = {**facts, "id": uuid.uuid4().hex}
        whole = self._load() if path.exists() else 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.truncate(path, whole)  # a line that was being written when the process was killed
        if not whole:
            self._line({"facts": self.facts})

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def name(self) -> str:
        """The first run's key; the others are its children."""
        return str(self.entries[0]["run"]) if self.entries else self.path.stem

    @property
    def missing(self) -> int:
        """How many entries have not been received."""
        return len(self.entries) - self.sent

    @property
    def open_runs(self) -> list[str]:
        """The keys of the runs that have not ended, the last begun first."""
        runs = [entry["run"] for entry in self.entries if entry["do"] == "create"]
        return [run for run in reversed(runs) if self._said["status", run] == RUNNING]

    def create(self, run: str, *, name: str, tags: dict[str, str], time: int) -> None:
        """A run begins, or is gone on with."""
        if ("status", run) not in self._said:
            self._add({"do": "create", "run": run, "name": name, "tags": tags, "time": time})
        elif self._said["status", run] != RUNNING:
            self._add({"do": "status", "run": run, "status": RUNNING, "time": time})
            if reason := self._said.get(("tag", run, "reason")):
                self.log(run, tags=[("reason", f"{AGAIN}{reason.removeprefix(AGAIN)}")])

    def log(
        self,
        run: str,
        *,
        metrics: list[tuple[str, float, int, int]] | None = None,
        params: list[tuple[str, str]] | None = None,
        tags: list[tuple[str, str]] | None = None,
    ) -> None:
        """Metrics (name, value, milliseconds, step), parameters and tags of a run; those that are new."""
        new = {
            "metrics": [one for one in metrics or [] if (run, one[0], one[3]) not in self._said_earlier],
            "params": [one for one in params or [] if ("param", run, one[0]) not in self._said],
            "tags": [one for one in tags or [] if self._said.get(("tag", run, one[0])) != one[1]],
        }
        if any(new.values()):
            self._add({"do": "log", "run": run, **new})

    def data(self, run: str, values: dict[str, str]) -> None:
        """A set of data that went into a run."""
        if ("data", run, json.dumps(values)) not in self._said:
            self._add({"do": "data", "run": run, "values": values})

    def end(self, run: str, status: str, *, time: int) -> None:
        """A run has ended."""
        self._add({"do": "status", "run": run, "status": status, "time": time})

    def received(self, count: int) -> None:
        """The next `count` entries have been received, or refused for good."""
        with self._lock:
            self.sent += count
            self._line({"sent": self.sent, "ids": self.ids})

    def close(self) -> None:
        """Write nothing more."""
        os.close(self._file)

    def _add(self, entry: Entry) -> None:
        with self._lock:
            self._line(entry)
            self.entries.append(entry)
            self._say(entry)

    def _line(self, value: Entry) -> None:
        os.write(self._file, json.dumps(value).encode() + b"\n")

    def _say(self, entry: Entry) -> None:
        run = entry["run"]
        if entry["do"] == "data":
            self._said["data", run, json.dumps(entry["values"])] = True
        elif entry["do"] == "log":
            self._said.update({("param", run, one[0]): True for one in entry["params"]})
            self._said.update({("tag", run, one[0]): one[1] for one in entry["tags"]})
        else:
            self._said["status", run] = entry.get("status", RUNNING)

    def _load(self) -> int:
        """Read what is there; gives the length of the whole lines."""
        length = 0
        for line, value in _lines(self.path.read_bytes()):
            length += len(line)
            if "facts" in value:
                self.facts = value["facts"]
            elif "sent" in value:
                self.sent, self.ids = value["sent"], value["ids"]
            else:
                self.entries.append(value)
                self._say(value)
                self._said_earlier.update((value["run"], one[0], one[3]) for one in value.get("metrics", ()))
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
