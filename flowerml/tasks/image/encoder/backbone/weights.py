"""Files of weights: read whatever wraps them, and put into a network that has lost its head."""

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowerml.core.errors import ModelError

# What the training scripts of torchvision and timm save the network under; the averaged one is what they measure.
WRAPPINGS = ("state_dict_ema", "model_ema", "state_dict", "model")
# What torch's data-parallel and compiled modules put before every name, and torch's averaged ones too.
PREFIXES = ("module.", "_orig_mod.")
EXPECTED = "expected tensors by name, as safetensors or torch.save(network.state_dict(), path) writes them"


def existing(weights: str) -> Path:
    """`encode.weights` as the path of a file; raises ModelError where there is none."""
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"encode.weights: expected imagenet, none or the path of a file; there is no file {weights!r}")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict by name (.safetensors, else torch's format), on the CPU.

    What the usual training scripts wrap it in is taken off: {"model": …}, {"state_dict": …} (their moving average,
    where there is one) and `module.` before the names. Nothing in the file is run. Raises ModelError.
    """
    content = _content(path)
    if isinstance(content, dict):
        content = next((content[key] for key in WRAPPINGS if isinstance(content.get(key), dict)), content)
        tensors = OrderedDict((_short(str(key)), value) for key, value in content.items() if key != "n_averaged")
        if tensors and all(isinstance(value, Tensor) for value in tensors.values()):
            versions = getattr(content, "_metadata", {})
            return versioned(tensors, {_short(f"{name}.")[:-1]: version for name, version in versions.items()})
    raise ModelError(f"encode.weights: {path} holds no state dict; {EXPECTED}")


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, head: frozenset[str]) -> None:
    """Load all of a headless network, and nothing else, from `tensors`.

    Those named in `head` need not be there, nor fit, as they are not used. Raises what load_state_dict does.
    """
    versions = getattr(tensors, "_metadata", None) or {"": vars(network.state_dict())["_metadata"][""]}
    kept = OrderedDict((name, value) for name, value in tensors.items() if name not in head)
    network.load_state_dict(versioned(kept, versions), strict=True)


def versioned(tensors: Mapping[str, Tensor], versions: Mapping[str, Any]) -> dict[str, Tensor]:
    """A state dict that also holds the versions of the layers that wrote it, as torch's own do."""
    named = OrderedDict(tensors)
    vars(named)["_metadata"] = OrderedDict(versions)
    return named


def misfit(path: Path, error: Exception) -> ModelError:
    """What to tell of a state dict that another network wrote."""
    reason = " ".join(str(error).split()).partition("state_dict for ")[-1] or str(error)
    return ModelError(f"encode.weights: {path} does not fit the backbone: {' '.join(reason.split())[:200]}")


def _content(path: Path) -> Any:
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Training scripts keep their arguments beside the weights: names and values, no code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # both raise whatever the file's bytes lead them into, and torch advises to run them
        kind = type(error).__name__
        raise ModelError(
            f"encode.weights: {path} cannot be read ({kind}: damaged, or more than data); {EXPECTED}"
        ) from None


def _short(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name
