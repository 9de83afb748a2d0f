"""Frozen backbones: a pretrained network without its head, and the transform its weights were trained with."""

import difflib
import os
from typing import Protocol

import torch
from torch import nn

from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.backbone.embedded import EMBEDDED, timm_names
from flowerml.tasks.image.encoder.backbone.frozen import Frozen
from flowerml.tasks.image.encoder.backbone.torchvision_networks import without_head
from flowerml.tasks.image.encoder.pictures import Transform

__all__ = ["EMBEDDED", "Frozen", "architecture", "build", "names", "timm_names", "without_head"]

TIMM = "timm/"

# timm brings a client of the Hugging Face Hub along, which reads this when it is imported.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


class Source(Protocol):
    """A module that makes networks by name."""

    def names(self) -> list[str]: ...

    def build(self, name: str, weights: str) -> tuple[nn.Module, Transform]: ...

    def architecture(self, name: str, crop: int) -> nn.Module: ...


def build(name: str, *, weights: str, seed: int) -> tuple[Frozen, Transform]:
    """The backbone `name` without its head, and its evaluation transform.

    `name` is the embedded network, a classification network of torchvision, or one of timm's as `timm/NAME` or
    `timm/NAME.TAG`. `weights` is `imagenet` (the published ones, with timm those of the tag, whatever they were
    trained on), `none` (random from `seed`), the name of one of torchvision's sets for this network
    (`IMAGENET1K_V2`), or the path of a state dict (.pth or .safetensors), which must hold all but the head.
    Raises ModelError for an unknown name (with the nearest ones), a network that cannot be a backbone and weights
    that do not fit, DownloadError for weights that cannot be had.
    """
    torch.manual_seed(seed)
    network, transform = _known(name).build(name, weights)
    return Frozen(network), transform


def architecture(name: str, *, crop: int) -> Frozen:
    """The backbone `name` for pictures `crop` high, with random weights: the place to load saved ones into."""
    return Frozen(_known(name).architecture(name, crop))


def names() -> list[str]:
    """Every backbone that can be named: the embedded one, torchvision's classification networks, and timm's."""
    return [name for source in (_source(EMBEDDED), _source(""), _source(TIMM)) for name in source.names()]


def _known(name: str) -> Source:
    source = _source(name)
    if name in source.names():
        return source
    raise ModelError(
        f"encode.backbone: no network {name!r}; the nearest names are {', '.join(_nearest(name, names()))}"
    )


def _nearest(name: str, known: list[str]) -> list[str]:
    name = name.lower()
    holding = sorted((one for one in known if name.rpartition("/")[2] in one), key=len)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return list(dict.fromkeys([*holding[:2], *close])) or known[:5]


def _source(name: str) -> Source:
    # Only what the name needs, as importing torchvision takes 4 seconds, and timm as many.
    if name == EMBEDDED:
        from flowerml.tasks.image.encoder.backbone import embedded

        return embedded
    if name.startswith(TIMM):
        from flowerml.tasks.image.encoder.backbone import timm_networks

        return timm_networks
    from flowerml.tasks.image.encoder.backbone import torchvision_networks

    return torchvision_networks
