"""The checkpoint of a search: with it the same command resumes after any interruption.

It holds plain data and tensors, and is read without running code: hence no `torch.save`, which writes a pickle.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from flowerml.core import files
from flowerml.engine.fit import Epoch

if TYPE_CHECKING:
    from flowerml.engine.fit import State, Training
    from flowerml.search.study import Trial

PROGRESS = "progress.safetensors"
# Between two writes of a training's state; and writing takes at most one part in SHARE of the time.
SECONDS_BETWEEN = 2.0
SHARE = 20
TENSOR, PAIRS = "$tensor", "$pairs"  # in JSON: a tensor by its name, and a dict whose keys are not strings


@dataclass(frozen=True)
class TrialRecord:
    """The epochs of a trial, and its state; `finished` is False where it was still running."""

    number: int
    state: str
    reason: str
    epochs: tuple[Epoch, ...]
    finished: bool

    @classmethod
    def of(cls, trial: "Trial", *, finished: bool) -> "TrialRecord":
        """Return the record of a trial as it is now."""
        return cls(trial.number, trial.state, trial.reason, tuple(trial.epochs), finished)


class Checkpoint:
    """The folder of a search's checkpoint.

    `key` names all that the search's result depends on: checkpoints written under another key are deleted.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._written, self._seconds = time.monotonic(), 0.0
        self.records: dict[int, TrialRecord] = {}
        self._running: State | None = None
        found = self._read()
        if found is None:
            files.remove(folder)
        else:
            self.records = {one["number"]: _record(one) for one in found["trials"]}
            self._running = found["running"]

    @property
    def is_due(self) -> bool:
        """Whether the last write is long enough ago."""
        return time.monotonic() - self._written > max(SECONDS_BETWEEN, SHARE * self._seconds)

    def running(self, number: int) -> "State | None":
        """Return the state to resume this trial's training from; None where it is to begin."""
        record = self.records.get(number)
        return self._running if record and not record.finished else None

    def write(self, trial: "Trial", training: "Training") -> None:
        """Write the state of a running trial."""
        self._write(TrialRecord.of(trial, finished=False), training.state())

    def finish(self, trial: "Trial", best: "Mapping[str, torch.Tensor] | None") -> None:
        """Record that a trial has finished; `best` are its network's weights, if it is the best so far."""
        if best is not None:
            with _translated(self._winner(trial.number)) as temporary:
                save_file({name: _plain(tensor) for name, tensor in best.items()}, temporary)
        self._write(TrialRecord.of(trial, finished=True), None)
        if best is not None:
            for path in set(self._folder.glob("trial-*.safetensors")) - {self._winner(trial.number)}:
                files.remove(path)

    def best(self, number: int) -> "dict[str, torch.Tensor]":
        """Return the weights of the trial that was the best when it finished."""
        return load_file(self._winner(number))

    def _winner(self, number: int) -> Path:
        return self._folder / f"trial-{number}.safetensors"

    def _write(self, record: TrialRecord, running: "State | None") -> None:
        started = time.monotonic()
        self.records[record.number] = record
        tensors: dict[str, torch.Tensor] = {}
        value = {
            "key": self._key,
            "trials": [asdict(one) for one in self.records.values()],
            "running": _packed(running, tensors, "running"),
        }
        with _translated(self._folder / PROGRESS) as temporary:
            save_file(tensors, temporary, metadata={"progress": json.dumps(value)})
        self._written = time.monotonic()
        self._seconds = self._written - started

    def _read(self) -> Any:
        """Return what was written last under this key; None where there is nothing readable."""
        try:
            with safe_open(self._folder / PROGRESS, framework="pt") as file:
                value = json.loads(file.metadata()["progress"])
                if value["key"] != self._key:
                    return None
                return _unpacked(value, file)
        except (OSError, SafetensorError, ValueError, TypeError, KeyError):
            return None


def _record(value: dict[str, Any]) -> TrialRecord:
    return TrialRecord(**{**value, "epochs": tuple(Epoch(**epoch) for epoch in value["epochs"])})


def _packed(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """Return `value` as JSON has it; its tensors go into `tensors`, under names that begin with `name`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = _plain(value)
        return {TENSOR: name}
    if isinstance(value, Mapping):
        packed = {key: _packed(inner, tensors, f"{name}.{key}") for key, inner in value.items()}
        return packed if all(isinstance(key, str) for key in packed) else {PAIRS: list(packed.items())}
    if isinstance(value, list | tuple):
        return [_packed(inner, tensors, f"{name}.{place}") for place, inner in enumerate(value)]
    assert value is None or isinstance(value, str | int | float), f"{name}: {type(value)} is no plain data"
    return value


def _unpacked(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return [_unpacked(inner, file) for inner in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return file.get_tensor(value[TENSOR])
    if PAIRS in value:
        return {key: _unpacked(inner, file) for key, inner in value[PAIRS]}
    return {key: _unpacked(inner, file) for key, inner in value.items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()


@contextmanager
def _translated(target: Path) -> Iterator[Path]:
    """As `files.replacing`; an error of the system inside safetensors becomes an OSError."""
    with files.replacing(target) as temporary:
        try:
            yield temporary
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), str(error), str(target)) from error
