"""A search on its way, written down so that the same command goes on with it after any interruption.

What is written holds plain data and tensors, and is read without running code.
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
# Between two writings of a training's state; and writing takes no more than a part of the time in this many.
SECONDS_BETWEEN = 2.0
SHARE = 20
TENSOR, PAIRS = "$tensor", "$pairs"  # in JSON: a tensor by its name, and a dict whose keys are no texts


@dataclass(frozen=True)
class Record:
    """What a trial had seen, and how it ended; `ended` is False where it was on its way."""

    number: int
    state: str
    reason: str
    epochs: tuple[Epoch, ...]
    ended: bool

    @classmethod
    def of(cls, trial: "Trial", *, ended: bool) -> "Record":
        """The record of a trial as it is now."""
        return cls(trial.number, trial.state, trial.reason, tuple(trial.epochs), ended)


class Checkpoint:
    """The folder that a search is written down in.

    `key` names all that the search's result depends on: what was written under another one is removed unread.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._written, self._seconds = time.monotonic(), 0.0
        self.records: dict[int, Record] = {}
        self._running: State | None = None
        found = self._read()
        if found is None:
            files.remove(folder)
        else:
            self.records = {one["number"]: _record(one) for one in found["trials"]}
            self._running = found["running"]

    @property
    def due(self) -> bool:
        """Whether the last writing is long enough ago."""
        return time.monotonic() - self._written > max(SECONDS_BETWEEN, SHARE * self._seconds)

    def running(self, number: int) -> "State | None":
        """The state in which the training of this trial is to go on; None where it is to begin."""
        record = self.records.get(number)
        return self._running if record and not record.ended else None

    def write(self, trial: "Trial", training: "Training") -> None:
        """A trial is on its way."""
        self._write(Record.of(trial, ended=False), training.state())

    def end(self, trial: "Trial", best: "Mapping[str, torch.Tensor] | None") -> None:
        """A trial has ended; `best` are its network's weights, if it is the best so far."""
        if best is not None:
            with _translated(self._winner(trial.number)) as temporary:
                save_file({name: _plain(tensor) for name, tensor in best.items()}, temporary)
        self._write(Record.of(trial, ended=True), None)
        if best is not None:
            for path in set(self._folder.glob("trial-*.safetensors")) - {self._winner(trial.number)}:
                files.remove(path)

    def best(self, number: int) -> "dict[str, torch.Tensor]":
        """The weights of the trial that was the best when it ended."""
        return load_file(self._winner(number))

    def _winner(self, number: int) -> Path:
        return self._folder / f"trial-{number}.safetensors"

    def _write(self, record: Record, running: "State | None") -> None:
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
        """What was written last under this key; None where there is nothing, or nothing that can be read."""
        try:
            with safe_open(self._folder / PROGRESS, framework="pt") as file:
                value = json.loads(file.metadata()["progress"])
                if value["key"] != self._key:
                    return None
                return _unpacked(value, file)
        except (OSError, SafetensorError, ValueError, TypeError, KeyError):
            return None


def _record(value: dict[str, Any]) -> Record:
    return Record(**{**value, "epochs": tuple(Epoch(**epoch) for epoch in value["epochs"])})


def _packed(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """`value` as JSON has it, its tensors put into `tensors` under names that begin with `name`."""
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
    """`files.replacing`, with what the system refuses safetensors as an OSError."""
    with files.replacing(target) as temporary:
        try:
            yield temporary
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), str(error), str(target)) from error
