"""The checkpoint of a search: with it the same command resumes after any interruption, and more trials extend it.

A folder with `records.jsonl`, to which each training that ends appends one line, the state of each training in flight,
and the weights that are still needed. So a search of many trials writes as many bytes as they have epochs, and any
number may be in flight. The folder of a finished search keeps its records and the weights of the best.
"""

import json
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flowerml.core import files
from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError
from flowerml.engine.fit import Epoch
from flowerml.search.state import Saved, from_bytes, to_cpu, to_file
from flowerml.search.trial import SEARCHED

if TYPE_CHECKING:
    import torch

    from flowerml.engine.fit import Training
    from flowerml.search.trial import Trial

RECORDS = "records.jsonl"
FORMER = "progress.safetensors"  # the whole checkpoint, in versions before records.jsonl
STATE = "state."  # before the id of a training in flight
SUFFIX = ".safetensors"
SECONDS_BETWEEN = 2.0  # between two writes of a training's state, at least
SHARE = 20  # writing takes at most a 20th of the time


@dataclass(frozen=True)
class TrialRecord:
    """A training that has ended: its number in the search, its kind, how it ended, and its epochs."""

    id: str
    number: int
    kind: str
    state: str
    reason: str
    epochs: tuple[Epoch, ...]

    @classmethod
    def from_trial(cls, trial: "Trial") -> "TrialRecord":
        """Return the record of a trial that has ended."""
        return cls(trial.id, trial.number, trial.kind, trial.state, trial.reason, tuple(trial.epochs))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrialRecord":
        """Return the record of a line; raises KeyError, TypeError or ValueError for another one."""
        epochs = tuple(Epoch(**epoch) for epoch in value["epochs"])
        if not all(isinstance(value[name], str) for name in ("id", "kind", "state", "reason")):
            raise ValueError("expected strings")
        return cls(value["id"], int(value["number"]), value["kind"], value["state"], value["reason"], epochs)


@dataclass(frozen=True)
class Earlier:
    """The search that is extended: MLflow's id of its run, and those of its trials' runs by their names."""

    run: str | None
    trials: Mapping[str, str]


@dataclass
class _Content:
    """What records.jsonl holds; `finished` is the number of trials of a search that has ended."""

    header: Mapping[str, Any] = field(default_factory=dict)
    records: dict[str, TrialRecord] = field(default_factory=dict)
    finished: int | None = None
    earlier: Earlier | None = None
    mixed: bool = False
    length: int = 0

    def add(self, value: Mapping[str, Any]) -> None:
        """Apply a line after the header."""
        if "finished" in value:
            former = self.earlier.trials if self.earlier else {}
            self.finished = int(value["finished"])
            self.earlier = Earlier(value["run"], {**former, **value["runs"]})
            # What was trained after the search is trained again for the winner of a longer one.
            self.records = {id: record for id, record in self.records.items() if record.kind in SEARCHED}
        elif "extended" in value:
            self.finished = None
        elif "mixed" in value:
            self.mixed = True
        else:
            record = TrialRecord.from_json(value)
            self.records[record.id] = record


class Checkpoint:
    """The checkpoint of a search of `trials` trials in a folder.

    `key` is a digest of all that the result depends on, but for the number of trials; checkpoints written under another
    key are deleted. So are those of another `plan`, which says how points are chosen where that depends on the number
    of trials, and those of a finished search, unless there are more trials now: then it is extended. `notice` says in a
    line what was made of the former content, None if nothing.
    """

    def __init__(self, folder: Path, key: str, *, plan: Sequence[str] = (), trials: int = 1) -> None:
        self._folder, self._key, self._plan = folder, key, [*plan]
        self._writes: dict[str, tuple[float, float]] = {}  # by id: when the state was written, and how long it took
        self.records: dict[str, TrialRecord] = {}
        self.earlier: Earlier | None = None
        self.mixed = False
        """Whether a trial may have been trained on a machine unlike the driver's."""
        self.notice: str | None = None
        content = self._read()
        if self._continues(content, trials):
            self.records, self.earlier, self.mixed = content.records, content.earlier, content.mixed
            os.truncate(folder / RECORDS, content.length)  # drop a line that was being written
            if content.finished is not None:
                self._append({"extended": trials})
        else:
            files.remove(folder / RECORDS)  # first, as without it the rest counts for nothing if the process is killed
            files.remove(folder)

    def state(self, trial: "Trial") -> bytes | None:
        """Return the content of the file with a trial's state; None if there is none."""
        try:
            return self._state_path(trial).read_bytes()
        except FileNotFoundError:
            return None

    def running(self, trial: "Trial") -> Saved | None:
        """Return the state to resume a trial from; None if there is none."""
        content = self.state(trial)
        return None if content is None else from_bytes(content, self.label(trial))

    def label(self, trial: "Trial") -> str:
        """Return what names a training's state: no other one is resumed from it."""
        return f"{self._key} {trial.id}"

    def is_due(self, trial: "Trial") -> bool:
        """Return whether it is time to write the state of a running trial; time is counted from the first call."""
        written, seconds = self._writes.setdefault(trial.id, (time.monotonic(), 0.0))
        return time.monotonic() - written > max(SECONDS_BETWEEN, SHARE * seconds)

    def write(self, trial: "Trial", training: "Training") -> None:
        """Write the state of a running trial."""
        self._begin()
        with self._timed(trial), _replacing(self._state_path(trial)) as temporary:
            to_file(temporary, self.label(trial), trial.epochs, training.state())

    def write_content(self, trial: "Trial", content: bytes, seconds: float = 0.0) -> None:
        """Write the state of a trial that runs elsewhere; `seconds` is what it took there to make it."""
        self._begin()
        with self._timed(trial, seconds), files.replacing(self._state_path(trial)) as temporary:
            temporary.write_bytes(content)

    def finish(
        self,
        trial: "Trial",
        weights: "Mapping[str, torch.Tensor] | bytes | None",
        *,
        keep: Collection["Trial"] = (),
    ) -> None:
        """Record that a trial has ended, with its weights, where they are needed.

        Of other trials' weights those of the ones in `keep` stay.
        """
        self._begin()
        if weights is not None:
            with _replacing(self._weights_path(trial.id)) as temporary:
                if isinstance(weights, bytes):
                    temporary.write_bytes(weights)
                else:
                    save_file({name: to_cpu(tensor) for name, tensor in weights.items()}, temporary)
        record = TrialRecord.from_trial(trial)
        self._append(asdict(record))
        self.records[record.id] = record
        files.remove(self._state_path(trial))
        self._writes.pop(trial.id, None)
        if weights is not None:
            self._keep([trial.id, *(other.id for other in keep)])

    def note_mixed(self) -> None:
        """Record that machines are mixed, also for a search that resumes or extends this one."""
        if not self.mixed:
            self._begin()
            self._append({"mixed": True})
            self.mixed = True

    def has_weights(self, trial: "Trial") -> bool:
        """Return whether the weights of a finished trial were kept."""
        return self._weights_path(trial.id).exists()

    def weights(self, trial: "Trial") -> "dict[str, torch.Tensor]":
        """Return the weights of a finished trial that were kept; raises FlowermlError where they are gone."""
        try:
            return load_file(self._weights_path(trial.id))
        except (FileNotFoundError, SafetensorError) as error:
            raise FlowermlError(
                f"{self._weights_path(trial.id)}: expected the weights of {trial.name}, which cannot be read "
                f"({one_line(error, 100)}); remove {self._folder}, and the search starts anew"
            ) from None

    def close(self, trials: int, leaders: Collection["Trial"], *, run: str | None, runs: Mapping[str, str]) -> None:
        """Mark the search of so many trials as finished: the same command starts anew, one with more trials extends it.

        The weights of its `leaders` stay, for which of them is the best of more trials. `run` is MLflow's id of the
        search, `runs` has those of its trials by their names.
        """
        self._begin()
        for path in self._folder.glob(f"{STATE}*{SUFFIX}"):
            files.remove(path)
        self._append({"finished": trials, "run": run, "runs": dict(runs)})
        self._keep([trial.id for trial in leaders])

    def _weights_path(self, id: str) -> Path:
        return self._folder / f"{id}{SUFFIX}"

    def _state_path(self, trial: "Trial") -> Path:
        return self._folder / f"{STATE}{trial.id}{SUFFIX}"

    def _keep(self, ids: Collection[str]) -> None:
        kept = {self._weights_path(id) for id in ids}
        for path in set(self._folder.glob(f"*{SUFFIX}")) - kept:
            if not path.name.startswith(STATE):
                files.remove(path)

    @contextmanager
    def _timed(self, trial: "Trial", seconds: float = 0.0) -> Iterator[None]:
        started = time.monotonic()
        yield
        now = time.monotonic()
        self._writes[trial.id] = now, now - started + seconds

    def _begin(self) -> None:
        """Write the header, under which the other files count."""
        if not (self._folder / RECORDS).exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._append({"key": self._key, "plan": self._plan})

    def _append(self, value: Mapping[str, Any]) -> None:
        """Append a line and flush it to disk; if that fails, as on a full disk, the file is as before."""
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        path = self._folder / RECORDS
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            begin = os.fstat(descriptor).st_size
            try:
                while line:  # a disk that fills up takes a part of it, and fails only at the next write
                    line = line[os.write(descriptor, line) :]
                os.fsync(descriptor)
            except OSError as error:
                error.filename = str(path)
                os.ftruncate(descriptor, begin)
                raise
        finally:
            os.close(descriptor)

    def _read(self) -> _Content:
        """Return the complete lines; what follows one that is damaged is not read."""
        content = _Content()
        try:
            lines = (self._folder / RECORDS).read_bytes().splitlines(keepends=True)
        except (FileNotFoundError, NotADirectoryError):
            return content
        for line in lines:
            try:
                value = json.loads(line)
                if not line.endswith(b"\n"):
                    break
                if not content.header:
                    content.header = {"key": value["key"], "plan": value["plan"]}
                else:
                    content.add(value)
            except (ValueError, TypeError, KeyError, AttributeError):
                break
            content.length += len(line)
        return content

    def _continues(self, content: _Content, trials: int) -> bool:
        """Return whether the search goes on from this content, and set the notice."""
        if not content.header:
            if (self._folder / FORMER).exists():
                self.notice = "its checkpoint was written by an earlier version of flowerml; starting anew"
            return False
        if content.header["key"] != self._key:
            return False
        if content.header["plan"] != self._plan:
            former, now = (" and ".join(plan) or "nothing" for plan in (content.header["plan"], self._plan))
            self.notice = f"with this number of trials other points are tried ({now}; before: {former}); starting anew"
            return False
        begun = 1 + max((record.number for record in content.records.values() if record.kind in SEARCHED), default=-1)
        if content.finished is not None:
            if trials > content.finished:
                self.notice = f"extending a finished search of {content.finished} trials to {trials}"
            return trials > content.finished
        if begun > trials:
            self.notice = f"an interrupted search had begun {begun} trials, more than {trials}; starting anew"
            return False
        self.notice = "resuming an interrupted search"
        return True


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Wrap `files.replacing`, and raise safetensors' report of a system error as an OSError."""
    with files.replacing(target) as temporary:
        try:
            yield temporary
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), str(error), str(target)) from error
