"""Frozen backbones: a pretrained network without its head, and the transform its weights were trained with."""

import difflib
import os
from typing import Protocol

import torch
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone.blocks import Depth, blocks, depth_groups, depth_of, trained_from
from flowerml.tasks.image.encoder.backbone.embedded import EMBEDDED, to_timm_names
from flowerml.tasks.image.encoder.backbone.frozen import Frozen
from flowerml.tasks.image.encoder.backbone.torchvision_networks import remove_head
from flowerml.tasks.image.encoder.pictures import Transform

__all__ = [
    "EMBEDDED",
    "Depth",
    "Frozen",
    "architecture",
    "blocks",
    "build",
    "depth_groups",
    "depth_of",
    "names",
    "remove_head",
    "to_timm_names",
    "trained_from",
]

TIMM = "timm/"

# timm imports the client of the Hugging Face Hub, which reads this once, at import.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


class NetworkLibrary(Protocol):
    """A module that builds networks by name."""

    def names(self) -> list[str]: ...

    def build(self, name: str, weights: str) -> tuple[nn.Module, Transform]: ...

    def architecture(self, name: str, crop: int) -> nn.Module: ...


def build(name: str, *, weights: str, seed: int) -> tuple[Frozen, Transform]:
    """Return the backbone `name` without its head, and its evaluation transform.

    `name` is the embedded network, a classification network of torchvision, or a network of timm (`timm/NAME` or
    `timm/NAME.TAG`). `weights` is one of:

    * `imagenet`: the published weights; with timm those of the tag, whatever they were trained on;
    * `none`: random weights, drawn from `seed`;
    * the name of a set of torchvision's weights for this network, such as `IMAGENET1K_V2`;
    * the path of a state dict (.pth or .safetensors) that holds at least all of the network but its head.

    Raises ModelError for an unknown name (and suggests the nearest ones), for a network that cannot be a backbone and
    for weights that do not fit; DownloadError where the weights cannot be downloaded.
    """
    torch.manual_seed(seed)
    network, transform = _library_with(name).build(name, weights)
    return Frozen(network), transform


def architecture(name: str, *, crop: int) -> Frozen:
    """Return the backbone `name` with random weights, for pictures `crop` pixels high, ready to load saved weights."""
    return Frozen(_library_with(name).architecture(name, crop))


def names() -> list[str]:
    """Return the name of every backbone: the embedded one, torchvision's classification networks, and timm's."""
    return [name for library in (_library(EMBEDDED), _library(""), _library(TIMM)) for name in library.names()]


def _library_with(name: str) -> NetworkLibrary:
    library = _library(name)
    if name in library.names():
        return library
    raise ModelError(
        f"encode.backbone: no network {name!r}; the nearest names are {', '.join(_nearest(name, names()))}"
    )


def _nearest(name: str, candidates: list[str]) -> list[str]:
    name = name.lower()
    holding = sorted((candidate for candidate in candidates if name.rpartition("/")[2] in candidate), key=len)
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.4)
    return list(dict.fromkeys([*holding[:2], *close])) or candidates[:5]


def _library(name: str) -> NetworkLibrary:
    # Import only the library that the name needs: torchvision takes 4 seconds, and so does timm.
    if name == EMBEDDED:
        from flowerml.tasks.image.encoder.backbone import embedded

        return embedded
    if name.startswith(TIMM):
        from flowerml.tasks.image.encoder.backbone import timm_networks

        return timm_networks
    from flowerml.tasks.image.encoder.backbone import torchvision_networks

    return torchvision_networks
