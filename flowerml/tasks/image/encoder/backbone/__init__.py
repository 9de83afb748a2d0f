"""Backbones: pretrained networks without their heads, and the transforms that their weights were trained with."""

import difflib
import os
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone.blocks import Depth, blocks, depth_groups, depth_of, trained_from
from flowerml.tasks.image.encoder.backbone.embedded import EMBEDDED, TRANSFORMS, to_timm_names
from flowerml.tasks.image.encoder.backbone.frozen import Frozen
from flowerml.tasks.image.encoder.backbone.sizes import resize
from flowerml.tasks.image.encoder.backbone.torchvision_networks import remove_head
from flowerml.tasks.image.encoder.backbone.towers import Renormalized, Scale, Towers
from flowerml.tasks.image.encoder.pictures import Transform

__all__ = [
    "EMBEDDED",
    "Depth",
    "Frozen",
    "Scale",
    "Towers",
    "architecture",
    "blocks",
    "build",
    "build_towers",
    "depth_groups",
    "depth_of",
    "names",
    "remove_head",
    "to_timm_names",
    "towers_architecture",
    "towers_of",
    "trained_from",
]

TIMM = "timm/"

# timm imports the client of the Hugging Face Hub, which reads this once, at import.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


class NetworkLibrary(Protocol):
    """A module that builds networks by name."""

    def names(self) -> list[str]: ...

    def build(self, name: str, weights: str) -> tuple[nn.Module, Transform]: ...

    def architecture(self, name: str, crop: int | None) -> nn.Module: ...


def build(name: str, *, weights: str, seed: int, size: int | None = None) -> tuple[Frozen, Transform]:
    """Return the backbone `name` without its head, and its evaluation transform, to squares of `size` if it is given.

    `name` is an embedded network, a classification network of torchvision, or a network of timm (`timm/NAME` or
    `timm/NAME.TAG`). `weights` is one of:

    * `imagenet`: the published weights; with timm those of the tag, whatever they were trained on;
    * `none`: random weights, drawn from `seed`;
    * the name of a set of torchvision's weights for this network, such as `IMAGENET1K_V2`;
    * the path of a state dict (.pth or .safetensors) that holds at least all of the network but its head.

    Raises ModelError for an unknown name (and suggests the nearest ones), for a network that cannot be a backbone, for
    weights that do not fit and for a size that it cannot take; DownloadError where the weights cannot be downloaded.
    """
    network, transform = _build(name, weights, seed)
    resized = transform.of_size(size)
    return Frozen(network if resized == transform else resize(network, name, resized.crop)), resized


def build_towers(
    names: Sequence[str], *, weights: str, seed: int, size: int | None = None
) -> tuple[Frozen, Transform, tuple[Scale, ...]]:
    """Return several backbones as one, their common transform, and the scale of each one's pictures.

    The transform is that of the first one, but to `size`, or else to the largest size of them. Raises as `build`.
    """
    built = [_build(name, weights, seed) for name in names]
    side = size or max(max(transform.size) for _, transform in built)
    transform = built[0][1].of_size(side)
    networks = [
        network if own.size == transform.size else resize(network, name, side)
        for name, (network, own) in zip(names, built, strict=True)
    ]
    scales = tuple(Scale.of(own) for _, own in built)
    return frozen_towers(networks, scales, Scale.of(transform)), transform, scales


def frozen_towers(networks: Sequence[nn.Module], scales: Sequence[Scale], given: Scale) -> Frozen:
    """Return backbones, each for pictures of its own scale, as one for pictures of the `given` scale."""
    return Frozen(
        Towers([Renormalized(network, given=given, own=own) for network, own in zip(networks, scales, strict=True)])
    )


def towers_of(frozen: Frozen) -> list[nn.Module]:
    """Return the backbones side by side in what `build_towers` returns."""
    assert isinstance(frozen.module, Towers), "there are several"
    return list(frozen.module.towers)


def architecture(name: str, *, crop: int, size: int | None = None) -> Frozen:
    """Return the backbone `name` with random weights, for pictures `crop` pixels high, ready to load saved weights.

    `size` is that of `build`.
    """
    return Frozen(_architecture(name, crop=crop, size=size))


def towers_architecture(names: Sequence[str], *, side: int, scales: Sequence[Scale], given: Scale) -> Frozen:
    """Return several backbones as one, as `build_towers`, with random weights."""
    return frozen_towers([_architecture(name, crop=side, size=side) for name in names], scales, given)


def _build(name: str, weights: str, seed: int) -> tuple[nn.Module, Transform]:
    torch.manual_seed(seed)
    return _library_with(name).build(name, weights)


def _architecture(name: str, *, crop: int, size: int | None) -> nn.Module:
    if size is None:
        return _library_with(name).architecture(name, crop)
    return resize(_library_with(name).architecture(name, None), name, size)


def names() -> list[str]:
    """Return the name of every backbone: the embedded ones, torchvision's classification networks, and timm's."""
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
    if name in TRANSFORMS:
        from flowerml.tasks.image.encoder.backbone import embedded

        return embedded
    if name.startswith(TIMM):
        from flowerml.tasks.image.encoder.backbone import timm_networks

        return timm_networks
    from flowerml.tasks.image.encoder.backbone import torchvision_networks

    return torchvision_networks
