"""The state of a training in flight as bytes: what a file of the checkpoint holds, and what goes to another worker.

Not `torch.save`, which writes a pickle: this holds plain data and tensors only, and reading it runs no code.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file

from flowerml.engine.fit import Epoch

if TYPE_CHECKING:
    from flowerml.engine.fit import State

TENSOR, PAIRS = "$tensor", "$pairs"  # in JSON: the name of a tensor, and a dict whose keys are not strings


@dataclass(frozen=True)
class Saved:
    """The epochs of a training so far, and the state from which it resumes."""

    epochs: tuple[Epoch, ...]
    state: "State"


def to_bytes(label: str, epochs: Sequence[Epoch], state: "State") -> bytes:
    """Return a training's state as bytes; `label` names the training, so that no other one is resumed from it."""
    tensors, metadata = _packed(label, epochs, state)
    return save(tensors, metadata)


def to_file(path: Path, label: str, epochs: Sequence[Epoch], state: "State") -> None:
    """Write what `to_bytes` returns, without a copy in memory."""
    tensors, metadata = _packed(label, epochs, state)
    save_file(tensors, path, metadata)


def from_bytes(content: bytes, label: str) -> Saved | None:
    """Return the state of the training of this label; None if it is of another one, or damaged."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        value = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["training"])
        if value["label"] != label or not value["epochs"]:
            return None
        epochs = tuple(Epoch(**epoch) for epoch in value["epochs"])
        return Saved(epochs, _unpack(value["state"], load(content)))
    except (struct.error, SafetensorError, ValueError, TypeError, KeyError):
        return None


def weights_to_bytes(weights: "Mapping[str, torch.Tensor]") -> bytes:
    """Return named tensors as the content of a safetensors file."""
    return save({name: to_cpu(tensor) for name, tensor in weights.items()})


def to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as safetensors takes it."""
    return tensor.detach().cpu().contiguous()


def _packed(label: str, epochs: Sequence[Epoch], state: "State") -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    tensors: dict[str, torch.Tensor] = {}
    value = {
        "label": label,
        "epochs": [asdict(epoch) for epoch in epochs],
        "state": _pack(state, tensors, "state"),
    }
    return tensors, {"training": json.dumps(value)}


def _pack(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """Return `value` for JSON, with its tensors moved into `tensors` under names that begin with `name`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = to_cpu(value)
        return {TENSOR: name}
    if isinstance(value, Mapping):
        packed = {key: _pack(inner, tensors, f"{name}.{key}") for key, inner in value.items()}
        return packed if all(isinstance(key, str) for key in packed) else {PAIRS: list(packed.items())}
    if isinstance(value, list | tuple):
        return [_pack(inner, tensors, f"{name}.{index}") for index, inner in enumerate(value)]
    assert value is None or isinstance(value, str | int | float), f"{name}: {type(value)} is not plain data"
    return value


def _unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    if PAIRS in value:
        return {key: _unpack(inner, tensors) for key, inner in value[PAIRS]}
    return {key: _unpack(inner, tensors) for key, inner in value.items()}
