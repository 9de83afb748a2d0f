"""Hashes of everything a result depends on: data, package versions and source code."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def of(facts: Mapping[str, Any], *, packages: Iterable[str], code: Iterable[Path]) -> str:
    """Return the SHA-256, in hex, of plain data, package versions and source code (files or folders)."""
    versions = {name: version(name) for name in packages}
    content = {"facts": facts, "versions": versions, "code": [_content(path) for path in code]}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_tensors(tensors: "Mapping[str, Tensor]") -> str:
    """Return the SHA-256, in hex, of named tensors: names, types, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _content(path: Path) -> list[tuple[str, str]]:
    """Return (name, SHA-256) of each source file; raises FileNotFoundError where there is none.

    Without the error a moved module would count as an empty one, and a checkpoint would outlive changed code.
    """
    files = [path] if path.is_file() else [file for file in path.rglob("*") if _is_source(file)]
    if not files:
        raise FileNotFoundError(f"{path}: no source code to fingerprint")
    return sorted((str(file.relative_to(path.parent)), _digest(file)) for file in files)


def _is_source(file: Path) -> bool:
    return file.is_file() and file.parent.name != "__pycache__"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
