"""Files of weights: reading them, whatever wraps them, and loading them into a network without its head."""

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowerml.core.errors import ModelError

# The keys under which training scripts of torchvision and timm save the network. The averaged weights come first, as
# they are the ones whose accuracy is published.
WRAPPER_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
# What torch's data-parallel, averaged and compiled modules put before each name.
PREFIXES = ("module.", "_orig_mod.")
EXPECTED = "expected tensors by name, as safetensors or torch.save(network.state_dict(), path) writes them"


def existing_file(weights: str) -> Path:
    """Return `encode.weights` as the path of a file; raises ModelError where there is no such file."""
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"encode.weights: expected imagenet, none or the path of a file; there is no file {weights!r}")
    return path


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name (.safetensors, or torch's format), on the CPU.

    The usual wrappers of training scripts are removed: {"model": …}, {"state_dict": …} (the moving average, where
    there is one) and `module.` before the names. No code in the file is run. Raises ModelError.
    """
    content = _content(path)
    if isinstance(content, dict):
        content = next((content[key] for key in WRAPPER_KEYS if isinstance(content.get(key), dict)), content)
        tensors = OrderedDict((_bare_name(str(key)), value) for key, value in content.items() if key != "n_averaged")
        if tensors and all(isinstance(value, Tensor) for value in tensors.values()):
            versions = getattr(content, "_metadata", {})
            return with_versions(tensors, {_bare_name(f"{name}.")[:-1]: value for name, value in versions.items()})
    raise ModelError(f"encode.weights: {path} holds no state dict; {EXPECTED}")


def load_without_head(network: nn.Module, tensors: Mapping[str, Tensor], *, head: frozenset[str]) -> None:
    """Load every weight of a headless network from `tensors`.

    Tensors named in `head` are ignored: they may be missing or of another shape. Raises what load_state_dict raises.
    """
    versions = getattr(tensors, "_metadata", None) or {"": vars(network.state_dict())["_metadata"][""]}
    kept = OrderedDict((name, value) for name, value in tensors.items() if name not in head)
    network.load_state_dict(with_versions(kept, versions), strict=True)


def with_versions(tensors: Mapping[str, Tensor], versions: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a state dict that carries layer versions where torch's own state dicts do."""
    state_dict = OrderedDict(tensors)
    vars(state_dict)["_metadata"] = OrderedDict(versions)
    return state_dict


def mismatch_error(path: Path, error: Exception) -> ModelError:
    """Return the error to raise for a state dict of another network, where load_state_dict raised `error`."""
    reason = " ".join(str(error).split()).partition("state_dict for ")[-1] or str(error)
    return ModelError(f"encode.weights: {path} does not fit the backbone: {' '.join(reason.split())[:200]}")


def _content(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Training scripts save their arguments beside the weights, as a Namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes both raise anything; torch's message advises running its code
        kind = type(error).__name__
        raise ModelError(
            f"encode.weights: {path} cannot be read ({kind}: damaged, or more than data); {EXPECTED}"
        ) from None


def _bare_name(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name
