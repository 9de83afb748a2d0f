"""The checkpoint of a search: with it the same command resumes after any interruption.

Not `torch.save`, which writes a pickle: this holds plain data and tensors only, and reading it runs no code.
"""

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
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
SECONDS_BETWEEN = 2.0  # between two writes, at least
SHARE = 20  # writing takes at most a 20th of the time
TENSOR, PAIRS = "$tensor", "$pairs"  # in JSON: the name of a tensor, and a dict whose keys are not strings


@dataclass(frozen=True)
class TrialRecord:
    """The epochs and the state of a trial; `finished` is False while it is running."""

    number: int
    state: str
    reason: str
    epochs: tuple[Epoch, ...]
    finished: bool

    @classmethod
    def from_trial(cls, trial: "Trial", *, finished: bool) -> "TrialRecord":
        """Return the record of a trial in its present state."""
        return cls(trial.number, trial.state, trial.reason, tuple(trial.epochs), finished)


class Checkpoint:
    """The checkpoint of a search in a folder.

    `key` is a digest of all that the result depends on. Checkpoints written under another key are deleted.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._written_at, self._write_seconds = time.monotonic(), 0.0
        self.records: dict[int, TrialRecord] = {}
        self._running: State | None = None
        content = self._read()
        if content is None:
            files.remove(folder)
        else:
            self.records = {record["number"]: _trial_record(record) for record in content["trials"]}
            self._running = content["running"]

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next write."""
        return time.monotonic() - self._written_at > max(SECONDS_BETWEEN, SHARE * self._write_seconds)

    def running(self, number: int) -> "State | None":
        """Return the state to resume this trial's training from; None if there is none."""
        record = self.records.get(number)
        return self._running if record and not record.finished else None

    def write(self, trial: "Trial", training: "Training") -> None:
        """Write the state of a running trial."""
        self._write(TrialRecord.from_trial(trial, finished=False), training.state())

    def finish(
        self, trial: "Trial", weights: "Mapping[str, torch.Tensor] | None", *, keep: Collection[int] = ()
    ) -> None:
        """Record that a trial has finished, with its weights, where they are needed.

        Of other trials' weights those of the numbers in `keep` stay.
        """
        if weights is not None:
            with _replacing(self._weights_path(trial.number)) as temporary:
                save_file({name: _to_cpu(tensor) for name, tensor in weights.items()}, temporary)
        self._write(TrialRecord.from_trial(trial, finished=True), None)
        if weights is not None:
            kept = {self._weights_path(number) for number in (*keep, trial.number)}
            for path in set(self._folder.glob("trial-*.safetensors")) - kept:
                files.remove(path)

    def weights(self, number: int) -> "dict[str, torch.Tensor]":
        """Return the weights of a finished trial that were kept."""
        return load_file(self._weights_path(number))

    def _weights_path(self, number: int) -> Path:
        return self._folder / f"trial-{number}.safetensors"

    def _write(self, record: TrialRecord, running: "State | None") -> None:
        started = time.monotonic()
        self.records[record.number] = record
        tensors: dict[str, torch.Tensor] = {}
        value = {
            "key": self._key,
            "trials": [asdict(each) for each in self.records.values()],
            "running": _pack(running, tensors, "running"),
        }
        with _replacing(self._folder / PROGRESS) as temporary:
            save_file(tensors, temporary, metadata={"progress": json.dumps(value)})
        self._written_at = time.monotonic()
        self._write_seconds = self._written_at - started

    def _read(self) -> dict[str, Any] | None:
        """Return the content of the last write under this key; None if there is none or it is damaged."""
        try:
            with safe_open(self._folder / PROGRESS, framework="pt") as file:
                value = json.loads(file.metadata()["progress"])
                if value["key"] != self._key:
                    return None
                content: dict[str, Any] = _unpack(value, file)
                return content
        except (OSError, SafetensorError, ValueError, TypeError, KeyError):
            return None


def _trial_record(value: dict[str, Any]) -> TrialRecord:
    return TrialRecord(**{**value, "epochs": tuple(Epoch(**epoch) for epoch in value["epochs"])})


def _pack(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """Return `value` for JSON, with its tensors moved into `tensors` under names that begin with `name`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = _to_cpu(value)
        return {TENSOR: name}
    if isinstance(value, Mapping):
        packed = {key: _pack(inner, tensors, f"{name}.{key}") for key, inner in value.items()}
        return packed if all(isinstance(key, str) for key in packed) else {PAIRS: list(packed.items())}
    if isinstance(value, list | tuple):
        return [_pack(inner, tensors, f"{name}.{index}") for index, inner in enumerate(value)]
    assert value is None or isinstance(value, str | int | float), f"{name}: {type(value)} is not plain data"
    return value


def _unpack(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(inner, file) for inner in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return file.get_tensor(value[TENSOR])
    if PAIRS in value:
        return {key: _unpack(inner, file) for key, inner in value[PAIRS]}
    return {key: _unpack(inner, file) for key, inner in value.items()}


def _to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()


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
