"""Which pretrained backbones there are: installed, in the caches of torch and of the Hugging Face Hub, or published."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowerml.data.download.hub import Repository
from flowerml.tasks.image.encoder.backbone import TIMM, downloads, embedded
from flowerml.tasks.records import Backbone

IMAGENET = "imagenet"  # in encode.weights: the published weights
MEBIBYTE = 2**20  # in which torchvision gives the sizes of its files


def backbones(*, published: bool) -> Iterator[Backbone]:
    """Yield the backbones whose weights are here, and, if `published`, those that would be downloaded."""
    for backbone in (*_embedded(), *_torchvision(), *_timm()):
        if published or backbone.is_here:
            yield backbone


def published_bytes(name: str) -> int:
    """Return about how many bytes the weights of a network take, from its layers alone: timm does not list them."""
    import torch
    from timm import create_model

    with torch.device("meta"):
        network = create_model(name.removeprefix(TIMM))
    return 4 * sum(parameter.numel() for parameter in network.parameters())


def _embedded() -> Iterator[Backbone]:
    for name in embedded.names():
        if find_spec(embedded.package(name)):
            yield Backbone(name, IMAGENET, "installed", None)


def _torchvision() -> Iterator[Backbone]:
    from torchvision import models

    for name in models.list_models(module=models):
        published = list(models.get_model_weights(name))
        for weights in published:
            path = downloads.cached_url(weights.url)
            size = round(weights.meta["_file_size"] * MEBIBYTE)
            chosen = IMAGENET if weights is published[0] else weights.name
            yield Backbone(name, chosen, "cache" if path else "published", size)


def _timm() -> Iterator[Backbone]:
    import timm
    from timm.models import get_pretrained_cfg

    for name in timm.list_pretrained():
        configuration = get_pretrained_cfg(name)
        path = _cached(configuration)
        size = path.stat().st_size if path else None
        yield Backbone(TIMM + name, IMAGENET, "cache" if path else "published", size)


def _cached(configuration: Any) -> Path | None:
    """Return the file of a timm configuration's weights, if it is in a cache."""
    if configuration.hf_hub_id:
        source = Repository.parse(configuration.hf_hub_id, alternative="")
        return next(filter(None, map(source.cached, downloads.HUB_FILES)), None)
    return downloads.cached_url(configuration.url) if configuration.url else None
